"""Prompts as token ids, and the text of token ids."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from strop.core.errors import ConfigError, UnsupportedError
from strop.data.encoding.chat import chat_ids
from strop.data.encoding.templates import template_of

Prompt = str | Sequence[dict[str, Any]] | Sequence[int]
"""A text to continue, the messages of a chat, or token ids."""


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the ids of a prompt.

    Raises:
        ConfigError: it is empty.
        UnsupportedError: messages are given and the model has no chat template.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
    elif len(prompt) and isinstance(prompt[0], int):
        ids = list(cast(Sequence[int], prompt))
    elif not len(prompt):
        raise ConfigError("there are no messages to answer; give at least one of role user")
    elif template_of(tokenizer) is None:
        raise UnsupportedError(
            "the model has no chat template, or several and none named default, so messages cannot be "
            "put to it; give one text to continue instead, or set tokenizer.chat_template"
        )
    else:
        ids = chat_ids(tokenizer, cast(Sequence[dict[str, Any]], prompt))
    if not ids:
        raise ConfigError("the text to continue is empty; give at least one word")
    return ids


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of some ids, without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def pieces_of_text(tokenizer: Any, ids: Iterable[int]) -> Iterator[str]:
    """Yield text as soon as it is settled; joined it is the decoding of all `ids`.

    A character may span several tokens, and a token's text may depend on the one before it, so
    each piece is the difference of two decodings that start one piece earlier.
    """
    window: list[int] = []
    settled = 0  # tokens of the window whose text was yielded
    for token in ids:
        window.append(token)
        whole = text_of(tokenizer, window)
        if whole.endswith("\ufffd"):
            continue  # within a character
        if piece := whole[len(text_of(tokenizer, window[:settled])) :]:
            yield piece
            window, settled = window[settled:], len(window) - settled
    if rest := text_of(tokenizer, window)[len(text_of(tokenizer, window[:settled])) :]:
        yield rest
