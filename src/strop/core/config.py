"""Read settings into frozen dataclasses and report everything that is wrong at once."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

from strop.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Base of every group of settings."""

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each value that cannot work; subclasses override."""
        yield from ()

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Build from plain data, such as a parsed YAML file or command-line flags.

        Raises:
            ConfigError: lists every unknown name, wrong type and impossible value.
        """
        wrong: list[str] = []
        config = _build(cls, settings, wrong)
        if config is None or wrong:
            raise ConfigError("the settings cannot be used:\n  " + "\n  ".join(wrong))
        return config

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain data, ready for JSON or YAML."""
        return dataclasses.asdict(self)


C = TypeVar("C", bound=Config)


def _build(cls: type[C], settings: Mapping[str, Any], wrong: list[str]) -> C | None:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
            wrong.append(f"{name} is not a setting; {hint}")
        elif (fitting := _fit(value, hints[name])) is _UNFIT:
            wrong.append(f"{name} is {value!r}; it must be {_described(hints[name])}")
        else:
            values[name] = fitting
    required = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    wrong.extend(f"{name} is missing" for name in sorted(required - set(settings)))
    if required - set(values):
        return None
    config = cls(**values)
    wrong.extend(config.problems())
    return config


_UNFIT = object()


def _fit(value: Any, hint: Any) -> Any:
    """Return `value` as the type of `hint`, or `_UNFIT`; a whole number may stand for a float."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        fits = (f for kind in typing.get_args(hint) if (f := _fit(value, kind)) is not _UNFIT)
        return next(fits, _UNFIT)
    if origin is typing.Literal:
        return value if value in typing.get_args(hint) else _UNFIT
    if origin is not None:
        kind = tuple if origin is tuple and isinstance(value, list) else origin
        return kind(value) if isinstance(value, (origin, list)) else _UNFIT
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) and hint is not bool:
        return _UNFIT
    return value if hint is Any or isinstance(value, hint) else _UNFIT


def _described(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_described(kind) for kind in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return "nothing" if hint is type(None) else names.get(hint, str(hint))
