"""Arithmetic that PyTorch's own counter cannot see: that of our C++."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_COUNTER: ContextVar[Callable[[int], None] | None] = ContextVar("counter", default=None)


def did(flops: int) -> None:
    """Add floating-point operations to the counter, if there is one; in training there is none."""
    if (counter := _COUNTER.get()) is not None:
        counter(flops)


@contextlib.contextmanager
def counted(counter: Callable[[int], None]) -> Iterator[None]:
    """Call `counter` with the operations that `did` adds inside the block."""
    token = _COUNTER.set(counter)
    try:
        yield
    finally:
        _COUNTER.reset(token)
