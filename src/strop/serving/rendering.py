"""Limits of what llama.cpp renders: a chat that exceeds them is refused before llama.cpp has it."""

from collections.abc import Mapping, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.limits import LimitError
from strop.data.encoding.template import ChatTemplate


def check_rendering(
    template: ChatTemplate,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Any] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a chat whose rendering goes beyond the limits of `strop.data.encoding.limits`.

    llama.cpp renders it once more, without any. What else a template refuses is left to llama.cpp,
    whose Jinja differs.

    Args:
        template: of the model.
        messages: the chat.
        tools: that it may call.
        variables: that a request gives the template.

    Raises:
        DataError: the limits are exceeded; the text names the one.
    """
    try:
        template.plain(messages, tools, prompt=True, variables=variables)
    except DataError as e:
        if isinstance(e.__cause__, LimitError | MemoryError | RecursionError):
            raise
