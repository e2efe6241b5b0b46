from pathlib import Path
from typing import Any, Literal

import pytest

from strop.cli.commands.train import settings_from
from strop.cli.flags import from_text, read_yaml, wrong_flags
from strop.core.errors import ConfigError, DataError, StropError
from strop.training.opening import open_run


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("5e-4", float, 5e-4),
        ("3", float, 3.0),
        ("3", int | float, 3),
        ("0.25", int | float, 0.25),
        ("none", int | None, None),
        ("7", int | None, 7),
        ("keep", Literal["auto", "keep"], "keep"),
        ("16", Literal[4, 16], 16),
        ("[q_proj, v_proj]", str | list[str], ["q_proj", "v_proj"]),
        ("all-linear", str | list[str], "all-linear"),
        ("{bf16: false, adam_epsilon: 1e-9}", dict, {"bf16": False, "adam_epsilon": 1e-9}),
        (
            "optim=adafactor,adam_beta2=0.9",
            dict[str, Any],
            {"optim": "adafactor", "adam_beta2": 0.9},
        ),
        ("lr_scheduler_kwargs={num_cycles: 2}", dict, {"lr_scheduler_kwargs": {"num_cycles": 2}}),
        ("optim_args=a=1,b=2", dict, {"optim_args": "a=1", "b": 2}),
        ("q_proj,v_proj", str | list[str], "q_proj,v_proj"),
        ("banana", int, "banana"),
        ("true", bool, True),
    ],
)
def test_text_is_read_as_the_type_of_its_setting(text, hint, value):
    read = from_text(text, hint)
    assert read == value
    assert type(read) is type(value)


def test_every_unknown_flag_is_named_with_the_nearest_one():
    known = {"--learning-rate": True, "--rank": True, "--json": False}
    wrong = wrong_flags(["a.jsonl", "--learning_rte", "1", "--json", "--rnk=4", "--zz"], known)
    assert wrong == [
        "--learning_rte is not an option; did you mean --learning-rate?",
        "--rnk is not an option; did you mean --rank?",
        "--zz is not an option; --help lists the options",
    ]


def test_the_value_of_a_flag_may_look_like_a_flag():
    assert wrong_flags(["--say", "--what?", "--", "--rest"], {"--say": True}) == []


def test_a_flag_that_stands_there_twice_is_named():
    known = {"--rank": True, "--json": False, "--also": True}
    words = ["--rank", "1", "--json", "--json", "--rank=2", "--also", "a", "--also", "b"]
    assert wrong_flags(words, known, ["--also"]) == [
        "--rank is given twice; give it once, a list joined by commas"
    ]


def test_flags_win_over_the_file_and_small_numbers_in_it_are_numbers(tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text("learning-rate: 5e-4\nepochs: 2\n")
    assert settings_from({"epochs": "3"}, config) == {"learning_rate": 5e-4, "epochs": 3.0}


def test_every_fault_in_flags_and_file_is_named_at_once(tmp_path: Path):
    config = tmp_path / "run.yaml"
    config.write_text("learning_rte: 1\nrank: 0\n")
    with pytest.raises(ConfigError) as failed:
        open_run(settings_from({"epochs": "many"}, config))
    text = str(failed.value)
    assert "learning_rte is not a setting; did you mean learning_rate?" in text
    assert "rank is 0; it must be at least 1" in text
    assert "epochs is 'many'; it must be a number" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- 1\n- 2\n", "holds a list"), (b"a: [1", "not YAML"), (b"\xff\xfe\x00", "not UTF-8")],
)
def test_a_file_that_holds_no_settings_says_why(tmp_path: Path, content, message):
    config = tmp_path / "run.yaml"
    config.write_bytes(content)
    with pytest.raises(StropError, match=message):
        read_yaml(config)


def test_a_missing_settings_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.yaml cannot be read .*is not there"):
        read_yaml(tmp_path / "absent.yaml")


def test_a_flag_of_another_trainer_is_answered_with_its_name_here():
    known = {"--learning-rate": True, "--rank": True}
    assert wrong_flags(["--lr", "1"], known) == [
        "--lr is not an option; it is called --learning-rate here"
    ]
    assert wrong_flags(["--lora_r=8"], known) == [
        "--lora_r is not an option; it is called --rank here"
    ]
