"""Flags of declared settings; flags and YAML files read back as settings."""

import difflib
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError
from strop.core.files import reading, yaml_value

_PAIRS = re.compile(r"\s*\w+=")
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class UsageError(ConfigError):
    """Error of a command line; the text lists every fault."""


def wrong_flags(
    arguments: Sequence[str], known: Mapping[str, bool], several: Collection[str] = ()
) -> list[str]:
    """Return a sentence for each flag of a command line that is unknown or given twice.

    Args:
        arguments: as typed.
        known: for each flag, True if a value follows it.
        several: flags that may be given more than once.
    """
    wrong: list[str] = []
    values: set[str] = set()
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            break
        name, equals, _ = word.partition("=")
        if not name.startswith("--"):
            continue
        if name not in known:
            wrong.append(f"{name} is not an option; {_nearest(name, known)}")
            continue
        if known[name]:
            if name in values and name not in several:
                wrong.append(f"{name} is given twice; give it once, a list joined by commas")
            values.add(name)
            if not equals:
                next(rest, "")  # the value of the flag, whatever it looks like
    return wrong


WITH_SHARE = ("--replay",)
"""Flags that take a file and a number behind it, `--replay general.txt 0.1`."""


def joined(arguments: Sequence[str]) -> list[str]:
    """Return a command line with `FILE:NUMBER` for FILE NUMBER behind a flag of `WITH_SHARE`."""
    words = list(arguments)
    for at in [i for i, word in enumerate(words[:-2]) if word in WITH_SHARE][::-1]:
        file, number = words[at + 1 : at + 3]
        if isinstance(_number(number, float), float):
            words[at + 1 : at + 3] = [f"{file}:{number}"]
    return words


ELSEWHERE = {
    "--lr": "--learning-rate",
    "--r": "--rank",
    "--lora-r": "--rank",
    "--lora-rank": "--rank",
    "--lora-alpha": "--alpha",
    "--lora-dropout": "--dropout",
    "--lr-scheduler-type": "--schedule",
    "--warmup-ratio": "--warmup",
    "--num-train-epochs": "--epochs",
    "--per-device-train-batch-size": "--batch-size",
    "--max-seq-length": "--max-length",
    "--output-dir": "--out",
    "--model-name-or-path": "--model",
    "--save-steps": "--save-every",
    "--eval-steps": "--eval-every",
    "--load-in-4bit": "--bits",
    "--early-stopping": "--early-stopping-patience",
    "--metric-for-best": "--metric-for-best-model",
    "--metrics": "--eval-metrics",
}
"""Flags of TRL, PEFT and others for settings that have another name here."""


def _nearest(name: str, known: Mapping[str, bool]) -> str:
    plain = name.replace("_", "-").lower()
    if ELSEWHERE.get(plain) in known:
        return f"it is called {ELSEWHERE[plain]} here"
    near = difflib.get_close_matches(plain, list(known), 1)
    return f"did you mean {near[0]}?" if near else "--help lists the options"


def from_text(text: str, hint: Any) -> Any:
    """Read a flag's text as the type its setting is declared with.

    Text that does not fit is returned as it is, so that reading the settings can say so.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(hint)
        if type(None) in kinds and text.lower() in ("none", "null"):
            return None
        read = (from_text(text, kind) for kind in kinds if kind is not type(None))
        return next((value for value in read if not isinstance(value, str)), text)
    if origin is typing.Literal:
        return next((choice for choice in typing.get_args(hint) if str(choice) == text), text)
    if hint is bool:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else text
    if hint in (int, float):
        return _number(text, hint)
    if hint is str:
        return text
    if (origin or hint) is dict and _PAIRS.match(text):
        pairs = (pair.partition("=") for pair in re.split(r",(?=\s*\w+=)", text))
        return {name.strip(): _yaml(value) for name, _, value in pairs}
    return _yaml(text) if hint is not Path else Path(text)


def _number(text: str, kind: type[int] | type[float]) -> int | float | str:
    try:
        return kind(text)
    except ValueError:
        return text


def numbers_of(text: str, option: str) -> list[float]:
    """Return the numbers of `0.5,0.5`.

    Raises:
        UsageError: one is no number.
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as e:
        raise UsageError(f"{option} is {text!r}; write numbers joined by commas, as 0.5,0.5") from e


def bounds_of(conditions: Sequence[str], option: str) -> dict[str, float]:
    """Return the numbers of conditions such as `accuracy=0.7`, by measure.

    Raises:
        UsageError: a condition is not of this form.
    """
    bounds: dict[str, float] = {}
    for condition in conditions:
        name, _, value = condition.partition("=")
        try:
            bounds[name.strip()] = float(value)
        except ValueError as e:
            raise UsageError(f"{option} is {condition!r}; write it as accuracy=0.7") from e
    return bounds


def read_yaml(path: Path, option: str = "--config") -> dict[str, Any]:
    """Return the settings of a YAML file that an option names, with `-` in a name read as `_`.

    Raises:
        DataError: the file is absent, or no text.
        ConfigError: it is no YAML, or is not a mapping of names to values.
    """
    with reading(path, f"{option} takes a YAML file"):
        settings = _yaml(path.read_text(encoding="utf-8"))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{path} holds a {type(settings).__name__}; write lines such as `epochs: 2`"
        )
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml_value(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"the settings are not YAML: {e}") from e
