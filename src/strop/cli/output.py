"""How a command answers: for people on the terminal, or as one JSON object for scripts."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=dict[str, Any])


def respond(work: Callable[[], T], show: Callable[[T], None], *, as_json: bool) -> T:
    """Do the work, show its result to people or print it as one JSON object, and return it.

    With `as_json` the object is the only thing on standard output: whatever the work prints by
    itself goes to standard error.
    """
    if not as_json:
        result = work()
        show(result)
        return result
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        result = work()
    stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return result


def fail(text: str, *, as_json: bool) -> None:
    """Print what went wrong: on standard error, and as JSON on standard output if wanted."""
    if as_json:
        sys.stdout.write(json.dumps({"error": text}, ensure_ascii=False) + "\n")
    sys.stderr.write(f"strop: {text}\n")
