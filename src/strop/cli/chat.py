"""`strop chat`: a talk on the terminal, or one question and its answer."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from strop.cli.flags import UsageError


def converse(which: str, *, max_tokens: int, uncertified: bool = False) -> None:
    """Take lines from the terminal and print answers as they are made, until an empty line.

    Raises:
        StropError: the run or the model cannot be used.
    """
    reply = _talker(which, uncertified)
    print("An empty line ends the talk.")
    messages: list[dict[str, str]] = []
    while text := _asked():
        messages.append({"role": "user", "content": text})
        said = ""
        for piece in reply(messages, max_tokens):
            print(piece, end="", flush=True)
            said += piece
        print()
        messages.append({"role": "assistant", "content": said})


def once(
    which: str, say: str | None, *, max_tokens: int, uncertified: bool = False
) -> dict[str, Any]:
    """Ask one question, read from standard input if `say` is None, and return the answer.

    Raises:
        UsageError: the question is empty.
        StropError: the run or the model cannot be used.
    """
    text = sys.stdin.read() if say is None else say
    if not text.strip():
        raise UsageError('strop chat needs a question, as in: strop chat RUN --say "Hello"')
    reply = _talker(which, uncertified)
    answer = "".join(reply([{"role": "user", "content": text}], max_tokens))
    return {"asked": text, "answer": answer}


def _talker(which: str, uncertified: bool) -> Callable[[list[dict[str, str]], int], Iterator[str]]:
    """Return what answers a chat: llama.cpp where a GGUF file is there, else the model itself."""
    from strop.models.packaged import PACKAGED

    engine_there = which not in PACKAGED and importlib.util.find_spec("xllamacpp") is not None
    found = None
    if engine_there:
        from strop.serving.served import at_hand

        found = at_hand(which, uncertified=uncertified)
    if found is not None:
        from strop.serving.engine import Engine

        laid = [] if found.adapter is None else [found.adapter]
        engine = Engine(found.file, adapters=laid, slots=1)
        own = 0 if laid else None
        return lambda messages, most: engine.reply(messages, max_tokens=most, adapter=own)
    from strop.evaluation import opened
    from strop.exporting.certify.certified import check, is_export
    from strop.models.generation import reply

    if not uncertified and is_export(Path(which)):
        check(Path(which))
    model, tokenizer = opened(which)
    return lambda messages, most: reply(model, tokenizer, messages, max_new_tokens=most)


def show(result: dict[str, Any]) -> None:
    """Print the answer alone."""
    print(result["answer"])


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
