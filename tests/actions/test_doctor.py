"""What a machine has, and what fits on it."""

import importlib.metadata

from packaging.requirements import Requirement

from strop.actions.doctor import _extra, extras
from strop.cli.commands.doctor import _without_compiler
from strop.core.files import read_json
from strop.core.native.prebuilt import WITHOUT
from strop.planning.fitting import fitting, known_models


def test_extras_are_those_of_the_package():
    known = set(importlib.metadata.metadata("strop").get_all("Provides-Extra")) - {"dev"}
    assert {extra["name"] for extra in extras()} == known
    for extra in extras():
        assert extra["command"].startswith('pip install "')
        assert extra["present"] == (not extra["absent"])


def test_an_absent_extra_has_the_line_that_installs_what_it_lacks():
    requirements = [Requirement("numpy>=1"), Requirement("strop-none>=6"), Requirement("torch>=99")]
    assert _extra("all", requirements) == {
        "name": "all",
        "present": False,
        "absent": ["strop-none", "torch"],
        "command": 'pip install "strop-none>=6" "torch>=99"',
    }
    assert _extra("one", requirements[:1])["present"]


def test_models_fit_in_memory_in_the_order_of_their_sizes():
    assert "smollm2-135m-instruct" in known_models()
    for model in fitting(8 * 2**30):
        assert model["bytes"][4] < model["bytes"][16]
        assert model["fits"] == [bits for bits in (4, 16) if model["bytes"][bits] <= 0.9 * 2**33]
    assert not any(model["fits"] for model in fitting(0))
    assert all(model["fits"] == [4, 16] for model in fitting(2**40))


def test_without_compiled_code_doctor_says_what_it_costs_and_what_brings_it():
    measured = read_json(WITHOUT)
    assert measured["times"]["answers in 4 bits"] > 1
    said = _without_compiler({"compiled_code": False, "without_compiled_code": measured})
    assert "install g++" in said
    for work, times in measured["times"].items():
        assert f"{work} {times:g} times" in said
    level = {"compiled_code": "x86-64-v3", "without_compiled_code": measured}
    assert _without_compiler(level) == "none; the wheel's code for x86-64-v3 is used"
