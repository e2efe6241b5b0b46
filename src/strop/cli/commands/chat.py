"""`strop chat`: a conversation on the terminal, or one question and its answer."""

import functools
import sys
from typing import Annotated, Any

import typer

from strop.cli.flags import UsageError
from strop.cli.options import Json, Target, Uncertified
from strop.cli.output import respond


def chat(
    target: Target,
    say: Annotated[
        str | None,
        typer.Option(help="Ask one question and exit; --json without it reads standard input."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    uncertified: Uncertified = False,
    as_json: Json = False,
) -> None:
    """Chat with a run or a model; an empty line ends the conversation."""
    from strop.actions.chat import answer
    from strop.runs.run_data import learned_labels

    if learned_labels(target):
        print(
            f"note    {target} learned labels, behind an instruction that a chat does not have; label "
            f"texts as it learned: strop predict {target} FILE --out OUT",
            file=sys.stderr,
        )
    if say is None and not as_json:
        converse(target, max_tokens=max_tokens, uncertified=uncertified)
        return
    work = functools.partial(answer, max_tokens=max_tokens, uncertified=uncertified)
    respond(lambda: work(target, question_from(say)), show, as_json=as_json)


def converse(target: str, *, max_tokens: int, uncertified: bool = False) -> None:
    """Read lines from the terminal and print answers piece by piece, until an empty line.

    Raises:
        StropError: the run or the model cannot be used.
    """
    from strop.serving.chat import chat_model

    reply = chat_model(target, uncertified=uncertified)
    print("An empty line ends the conversation.")
    messages: list[dict[str, str]] = []
    while text := _typed():
        messages.append({"role": "user", "content": text})
        answer = ""
        for piece in reply(messages, max_tokens):
            print(piece, end="", flush=True)
            answer += piece
        print()
        messages.append({"role": "assistant", "content": answer})


def question_from(say: str | None) -> str:
    """Return the question of `--say`, or all of standard input without it.

    Raises:
        UsageError: the question is empty.
    """
    text = sys.stdin.read() if say is None else say
    if not text.strip():
        raise UsageError('strop chat needs a question, as in: strop chat RUN --say "Hello"')
    return text


def show(result: dict[str, Any]) -> None:
    """Print the answer alone."""
    print(result["answer"])


def _typed() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
