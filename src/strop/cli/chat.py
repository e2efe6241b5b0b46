"""`strop chat`: a talk on the terminal, or one question and its answer."""

import sys
from typing import Any

from strop.cli.flags import UsageError


def converse(which: str, *, max_tokens: int, uncertified: bool = False) -> None:
    """Take lines from the terminal and print answers as they are made, until an empty line.

    Raises:
        StropError: the run or the model cannot be used.
    """
    from strop.serving.chat import chat_model

    reply = chat_model(which, uncertified=uncertified)
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
    from strop.serving.chat import chat_model

    reply = chat_model(which, uncertified=uncertified)
    answer = "".join(reply([{"role": "user", "content": text}], max_tokens))
    return {"asked": text, "answer": answer}


def show(result: dict[str, Any]) -> None:
    """Print the answer alone."""
    print(result["answer"])


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""
