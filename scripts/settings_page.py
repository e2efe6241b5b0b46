"""Write docs/settings.md from the declared settings, so that the page cannot go stale."""

import types
import typing
from pathlib import Path
from typing import Any

from strop.training.settings import described

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """# Settings of a run

Every setting has one name. In Python it is a keyword of `strop.train`, on the command line a flag
(`learning_rate` is `--learning-rate`), in a YAML file for `--config` a line. Flags win over the
file. What cannot work is refused before anything is loaded, all faults at once, with the nearest known
name for a misspelt one. (`make pages` writes this page from `strop.training.Settings`.)

| name | type | default | meaning |
|---|---|---|---|
"""


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
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
