"""Values of `--quant`: a number format, a budget of bytes, an adapter alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from strop.core.errors import ConfigError
from strop.exporting.gguf.types import FILE_TYPES

BUDGET = 1.10
"""Bytes of the matrices over those of plain 4 bits, by default."""


@dataclass(frozen=True, slots=True)
class Form:
    """One value of `--quant`."""

    name: str
    """Name, which folders have too."""
    quant: str
    """The format of all matrices; of an adapter alone, those of the base; empty: it varies."""
    alone: bool = False
    """Only the adapter is written."""
    budget: float | None = None
    """Bytes of the matrices over those of Q4_0, within which each gets its own format."""


def forms(quant: str | Sequence[str]) -> list[Form]:
    """Return the forms that `--quant` names, each once.

    Args:
        quant: names, as a list or joined by commas: a format; `dynamic` or `dynamic-BUDGET`;
            `adapter` or `adapter-FORMAT`, the format being that of the base below it.

    Raises:
        ConfigError: lists the names that are not known.
    """
    names = quant.split(",") if isinstance(quant, str) else quant
    parsed = [_form(name.strip().lower()) for name in names]
    if unknown := [name for name, form in zip(names, parsed, strict=True) if form is None]:
        raise ConfigError(
            f"--quant {','.join(unknown)} is not known; choose from {', '.join(FILE_TYPES)}, "
            "dynamic (or dynamic-1.25, in times the bytes of q4_0), adapter (or adapter-q8_0, the "
            "adapter alone, over a base in that format)"
        )
    return list(dict.fromkeys(form for form in parsed if form is not None))


def _form(name: str) -> Form | None:
    kind, _, rest = name.partition("-")
    if kind == "adapter" and (rest in FILE_TYPES or not rest):
        quant = rest or "f16"
        return Form(f"adapter-{quant}", quant, alone=True)
    if kind == "dynamic" and re.fullmatch(r"\d+(\.\d+)?|", rest):
        budget = float(rest or BUDGET)
        return Form(f"dynamic-{budget:.2f}", "", budget=budget)
    return Form(name, name) if name in FILE_TYPES else None
