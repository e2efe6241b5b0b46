"""Rows of `datasets` as chats: roles and contents under one name, columns joined into turns."""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from strop.core.errors import DataError

_COLUMNS = ("conversations", "messages", "conversation")
_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_COLUMN = re.compile(r"\{(\w+)\}")


def standardize_data_formats(
    dataset: Any,
    tokenizer: Any = None,
    aliases_for_system: Sequence[str] = ("system",),
    aliases_for_user: Sequence[str] = ("user", "human", "input"),
    aliases_for_assistant: Sequence[str] = ("gpt", "assistant", "output", "model", "chatgpt"),
    batch_size: int = 1000,
    num_proc: int | None = None,
) -> Any:
    """Return rows whose conversations are lists of `role` and `content`.

    Args:
        dataset: of `datasets`; without a column `conversations` or `messages` it is returned as it is.
        tokenizer: without effect.
        aliases_for_system: what rows call the system.
        aliases_for_user: what they call the user.
        aliases_for_assistant: what they call the assistant.
        batch_size: rows changed at once.
        num_proc: processes.

    Raises:
        DataError: a turn has a role that is none of these; the text has the row.
    """
    column = next((name for name in _COLUMNS if name in dataset.column_names), None)
    if column is None:
        return dataset
    roles = {alias.lower(): "system" for alias in aliases_for_system}
    roles |= {alias.lower(): "user" for alias in aliases_for_user}
    roles |= {alias.lower(): "assistant" for alias in aliases_for_assistant}
    roles |= {"tool": "tool"}

    def turn(message: dict[str, Any], number: int) -> dict[str, Any]:
        given = {k: v for k, v in message.items() if v is not None}
        role = str(given.get("role", given.get("from", ""))).lower()
        content = given.get("content", given.get("value"))
        if role not in roles or content is None:
            raise DataError(f"row {number}: {message!r} is no turn of {', '.join(roles)}")
        return {"role": roles[role], "content": content}

    def standard(rows: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        chats = zip(rows[column], numbers, strict=True)
        return {"conversations": [[turn(m, i) for m in chat] for chat, i in chats]}

    return dataset.map(
        standard,
        batched=True,
        with_indices=True,
        batch_size=batch_size,
        num_proc=num_proc,
        remove_columns=[column],
        desc="reading turns",
    )


standardize_sharegpt = standardize_data_formats


def to_sharegpt(
    dataset: Any,
    merged_prompt: str = "",
    merged_column_name: str = "instruction",
    output_column_name: str = "output",
    remove_unused_columns: bool = True,
    conversation_extension: int = 1,
    random_state: int = 3407,
) -> Any:
    """Return rows with a column `conversations`: an input made of columns, and an output.

    Args:
        dataset: of `datasets`.
        merged_prompt: the input, with {column} for contents; a part in [[ ]] is left out where its
            column is empty. Without it the column `merged_column_name` is the input.
        merged_column_name: of the input.
        output_column_name: of the answer.
        remove_unused_columns: leave only the conversations.
        conversation_extension: turns of a conversation, each of another row drawn at random.
        random_state: of the draw.

    Raises:
        DataError: a column is absent; the text has those there are.
    """
    names = [*_COLUMN.findall(merged_prompt)] or [merged_column_name]
    if absent := [n for n in (*names, output_column_name) if n not in dataset.column_names]:
        raise DataError(
            f"the rows have no column {', '.join(absent)}; they have {', '.join(dataset.column_names)}"
        )
    prompt = merged_prompt or f"{{{merged_column_name}}}"
    rng = random.Random(random_state)
    rows = len(dataset)
    orders = [list(range(rows))]
    orders += [rng.sample(range(rows), rows) for _ in range(conversation_extension - 1)]

    def turns(numbers: Sequence[int]) -> Iterator[dict[str, str]]:
        for number in numbers:
            row = dataset[number]
            yield {"from": "human", "value": _merged(prompt, row)}
            yield {"from": "gpt", "value": str(row[output_column_name])}

    def conversation(row: dict[str, Any], number: int) -> dict[str, Any]:
        return {"conversations": list(turns([order[number] for order in orders]))}

    unused = list(dataset.column_names) if remove_unused_columns else None
    return dataset.map(
        conversation, with_indices=True, remove_columns=unused, desc="joining columns"
    )


def _merged(prompt: str, row: dict[str, Any]) -> str:
    def optional(match: re.Match[str]) -> str:
        present = all(row[name] not in (None, "") for name in _COLUMN.findall(match[1]))
        return match[1] if present else ""

    text = _OPTIONAL.sub(optional, prompt)
    return _COLUMN.sub(lambda match: str(row[match[1]]), text)
