"""Quiet for other libraries: no progress bar, notice or FutureWarning of theirs reaches a user."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

_LIBRARIES = r"(accelerate|bitsandbytes|datasets|peft|transformers|trl)\b"
_BARS = {
    "transformers.utils.logging": (
        "is_progress_bar_enabled", "disable_progress_bar", "enable_progress_bar",
    ),
    "datasets": ("is_progress_bar_enabled", "disable_progress_bars", "enable_progress_bars"),
}  # fmt: skip
"""By module the names of its functions: bars are shown, show none, show them again."""


@contextlib.contextmanager
def quiet(*, warn: bool = True) -> Iterator[None]:
    """Keep bars, notices and FutureWarnings of the libraries below strop from the user.

    Bars are switched off in libraries that are imported before the block; everything is as it was
    after it. bitsandbytes, which PEFT imports where it is installed, gives a notice when imported,
    and asks a hub for compiled code where the package `kernels` is installed: not inside the block.

    Args:
        warn: let transformers log its warnings; False for a model that nobody will run.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", category=FutureWarning, module=_LIBRARIES)
        undo.enter_context(log_level("bitsandbytes"))
        undo.enter_context(without_package("kernels"))
        if not warn:
            undo.enter_context(log_level("transformers"))
        for name, (shown, hide, show) in _BARS.items():
            library = sys.modules.get(name)
            if library is not None and getattr(library, shown)():
                getattr(library, hide)()
                undo.callback(getattr(library, show))
        yield


@contextlib.contextmanager
def log_level(library: str, least: int = logging.ERROR) -> Iterator[None]:
    """Log only errors of a library inside the block, or what is at least as grave as named."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(max(level, least))
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def without_package(package: str) -> Iterator[None]:
    """Let imports of a package fail inside the block, as if it were not installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # as Python documents it
    try:
        yield
    finally:
        if sys.modules.get(package) is None:
            sys.modules.pop(package, None)


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Drop what is written to standard error inside the block: bars that have no switch."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
