"""The command that repeats a training."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from strop.planning.settings import described

_ELSEWHERE = ("data", "out", "model")
"""Settings that are given as arguments, or beside the others."""
_RESOLVED = ("max_length", "dtype")
"""Settings that are resolved before training: what was chosen is repeated."""


def train_command(
    settings: Mapping[str, Any], sources: Sequence[str], model: str, out: str | None = None
) -> str:
    """Return the command that makes the same adapter, with the settings that are not the defaults.

    Args:
        settings: of a run, as resolved.
        sources: files of its data as a reader of the command has them.
        model: name of its base.
        out: folder of the run; None leaves it to strop.
    """
    words = ["strop train", *map(shlex.quote, sources), f"--model {shlex.quote(model)}"]
    flags = [f"--out {shlex.quote(out)}"] if out else []
    flags += [f"{_flag(name)} {_word(value)}" for name, value in changed(settings)]
    flags.append(" ".join(f"{_flag(name)} {_word(settings[name])}" for name in _RESOLVED))
    return " \\\n  ".join([" ".join(words), *flags])


def changed(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each setting that is not its default, and was not resolved."""
    for name, (_, default, _) in described().items():
        value = settings.get(name)
        if name not in (*_ELSEWHERE, *_RESOLVED) and value not in (default, None, {}):
            yield name, value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))
