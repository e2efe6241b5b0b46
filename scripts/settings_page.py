"""Write docs/settings.md from the declared settings, so that the page cannot go stale."""

import types
import typing
from pathlib import Path
from typing import Any

from wrap import write_page

from strop.planning.argument_tables import BY_METHOD, DECIDED, REFUSED, WITHOUT_EFFECT, WORKS
from strop.planning.settings import described

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """# Settings of a run

Every setting has one name. In Python it is a keyword of `strop.train`, on the command line a flag
(`learning_rate` is `--learning-rate`), in a YAML file for `--config` a line. Flags win over the
file. What cannot work is refused before anything is loaded, all faults at once, with the nearest known
name for a misspelt one. (`make pages` writes this page from `strop.training.Settings`.)

| name | type | default | meaning |
|---|---|---|---|
"""


ARGUMENTS = """
## Further arguments of TRL's trainer

`trainer` takes arguments of TRL's `SFTConfig`, and of the method's own configuration, by their names, as in
`--trainer optim=adafactor,adam_beta2=0.95`, or a mapping in YAML and Python. Each either works, or is
refused before anything is loaded with what to use instead, or does not matter here, which is said
where it is given.

`load_best_model_at_end`, `metric_for_best_model` and `early_stopping_patience` are settings of their own
(`evaluation.md` says how they go together); the first two may also be written here.

"""


def arguments() -> str:
    """Return the tables of the trainer's arguments."""
    ways = {name: REFUSED[name] or f"use `{DECIDED[name]}`" for name in REFUSED}
    tables = [
        _table("works", "what it does", WORKS),
        *_of_methods(),
        _table("refused", "strop's way", ways),
        _table("does not matter", "because", WITHOUT_EFFECT),
    ]
    return ARGUMENTS + "\n".join(tables)


def _of_methods() -> list[str]:
    """Return a table of the arguments of each method, one for methods that take the same."""
    methods: dict[str, list[str]] = {}
    for method, rows in BY_METHOD.items():
        if rows:
            table = _table("works with {}", "what it does", rows)
            methods.setdefault(table, []).append(method)
    return [table.replace("{}", " and ".join(names), 1) for table, names in methods.items()]


def _table(title: str, column: str, rows: dict[str, str]) -> str:
    """Return one table; arguments of one reason share a row."""
    reasons: dict[str, list[str]] = {}
    for name, reason in sorted(rows.items()):
        reasons.setdefault(reason, []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {reason} |" for reason, names in reasons.items()]
    return "\n".join([f"| {title} | {column} |", "|---|---|", *lines]) + "\n"


def spoken(hint: Any) -> str:
    """Return a type as a reader would write it."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(spoken(kind) for kind in typing.get_args(hint))
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return (
        "none" if hint is type(None) else names.get(hint, "mapping" if origin is dict else "list")
    )


def page() -> str:
    """Return the page as it should be."""
    lines = [
        f"| `{name}` | {spoken(hint)} | {'' if default in (None, {}) else f'`{default}`'} | {doc} |"
        for name, (hint, default, doc) in described().items()
    ]
    return HEAD + "\n".join(lines) + "\n" + arguments()


if __name__ == "__main__":
    write_page(PAGE, page())
