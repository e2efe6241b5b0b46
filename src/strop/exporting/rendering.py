"""Chats up to where an answer begins, as a tokenizer's chat template renders them."""

from collections.abc import Sequence
from typing import Any


def prompt_text(tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Any = None) -> str:
    """Return the text of a chat up to where its answer begins."""
    return str(
        tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=True, tokenize=False
        )
    )


def prompt_ids(tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Any = None) -> list[int]:
    """Return the token ids of a chat up to where its answer begins."""
    encoded = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])
