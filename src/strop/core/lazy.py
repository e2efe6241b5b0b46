"""Public names of a package that are loaded when they are first used (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from strop.core.quiet import quiet


def public(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    Args:
        package: its name.
        homes: by public name the module that has it, or that is it.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"{package} has no public name {name!r}; it has {', '.join(homes)}"
            )
        with quiet():
            module = importlib.import_module(homes[name])
        return module if homes[name] == f"{package}.{name}" else getattr(module, name)

    return load
