"""Chats for a model to answer: their text and their token ids, rendered within limits."""

from collections.abc import Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.prepared_tokenizer import tokenizer_name
from strop.data.encoding.template import ChatTemplate
from strop.data.encoding.templates import day_of, template_of
from strop.data.rows import Message


def chat_text(
    tokenizer: Any, messages: Sequence[Message], tools: Any = None, *, answer: bool = True
) -> str:
    """Return the text of a chat, up to where its answer begins unless `answer` is false.

    Raises:
        DataError: there is no chat template, or it refuses the chat.
    """
    source = template_of(tokenizer, tools=tools is not None)
    if source is None:
        raise DataError(f"{tokenizer_name(tokenizer)} has no chat template")
    title = f"the chat template of {tokenizer_name(tokenizer)}"
    template = ChatTemplate(source, dict(tokenizer.special_tokens_map), title, day_of(tokenizer))
    return template.plain(messages, tools, prompt=answer)


def chat_ids(tokenizer: Any, messages: Sequence[Message], tools: Any = None) -> list[int]:
    """Return the token ids of a chat up to where its answer begins; see `chat_text`."""
    text = chat_text(tokenizer, messages, tools)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
