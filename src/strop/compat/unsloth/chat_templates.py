"""Unsloth's `chat_templates`: templates of families, rows into chats, and which tokens are learned."""

from strop.compat.unsloth.responses import train_on_responses_only
from strop.compat.unsloth.rows import (
    standardize_data_formats,
    standardize_sharegpt,
    to_sharegpt,
)
from strop.compat.unsloth.templates import (
    CHAT_TEMPLATES,
    apply_chat_template,
    construct_chat_template,
    get_chat_template,
)

__all__ = [
    "CHAT_TEMPLATES",
    "apply_chat_template",
    "construct_chat_template",
    "get_chat_template",
    "standardize_data_formats",
    "standardize_sharegpt",
    "to_sharegpt",
    "train_on_responses_only",
]
