"""How much arithmetic is done where PyTorch's own counter cannot see it: in our C++."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_COUNTER: ContextVar[Callable[[int], None] | None] = ContextVar("counter", default=None)


def did(flops: int) -> None:
    """Tell whoever counts of so many floating-point operations; nobody listens in training."""
    if (counter := _COUNTER.get()) is not None:
        counter(flops)


@contextlib.contextmanager
def counted(counter: Callable[[int], None]) -> Iterator[None]:
    """Give `counter` what `did` is told inside the block."""
    token = _COUNTER.set(counter)
    try:
        yield
    finally:
        _COUNTER.reset(token)
