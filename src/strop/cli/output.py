"""Output of commands: text for people or one JSON object for scripts."""

import contextlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from strop.core.system.visible import visible

T = TypeVar("T", bound=dict[str, Any])


def respond(work: Callable[[], T], show: Callable[[T], None], *, as_json: bool) -> T:
    """Do the work, show its result to people or print it as one JSON object, and return it.

    With `as_json` the object is the only thing on standard output: whatever the work prints goes
    to standard error.
    """
    if not as_json:
        result = work()
        show(result)
        return result
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        result = work()
    stdout.write(_json(result))
    return result


def _json(value: dict[str, Any]) -> str:
    """Return the value as a line of JSON; half characters become JSON's own escapes.

    Where standard output cannot have every character, all but ASCII are such escapes.
    """
    text = json.dumps(value, ensure_ascii=not is_unicode()) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_unicode() -> bool:
    """Return whether standard output can have every character."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def replace_unknown_characters() -> None:
    """Let output show `?` for characters that its encoding does not have, as of Windows' consoles."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def fail(text: str, *, as_json: bool, **facts: Any) -> None:
    """Print an error: on standard error, and with `as_json` as JSON on standard output too.

    Args:
        text: of the error.
        as_json: print an object with `error` and the facts.
        **facts: further fields of the object.
    """
    if as_json:
        sys.stdout.write(_json({"error": text, **facts}))
    sys.stderr.write(f"strop: {visible(text)}\n")
