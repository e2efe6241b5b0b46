"""Choose which implementation of an operation runs.

This is the only place in the library where that choice is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from strop.core import env
from strop.core.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to run an operation."""

    name: str
    """What a user writes in ``impl=``."""
    load: Callable[[], Callable[..., Tensor]]
    """Imports and returns the function; called only when this implementation is chosen."""
    obstacle: Callable[..., str | None] = lambda *tensors: None
    """Says why these tensors cannot be taken, or None when they can."""


def choose(impls: Sequence[Impl], wanted: str | None, *tensors: Tensor) -> Callable[..., Tensor]:
    """Return the function to run: the wanted one, or else the first that can take the tensors.

    Args:
        impls: fastest first; the last one takes any tensors.
        wanted: a name, or None. A wanted implementation is never replaced by another.
        *tensors: the tensors of the call.

    Raises:
        UnsupportedError: the wanted implementation is unknown or cannot take the tensors.
    """
    wanted = wanted or env.FORCED_IMPL
    if wanted is None:
        return next(i for i in impls if i.obstacle(*tensors) is None).load()
    for impl in impls:
        if impl.name == wanted:
            if (obstacle := impl.obstacle(*tensors)) is not None:
                raise UnsupportedError(f"impl={wanted!r} cannot run here: {obstacle}")
            return impl.load()
    known = ", ".join(repr(i.name) for i in impls)
    raise UnsupportedError(f"impl={wanted!r} is not known; this operation has {known}")
