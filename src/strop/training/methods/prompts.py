"""Prompts that a model is to answer by itself: conversations up to their last answer, as tokens."""

import dataclasses
import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from strop.core.errors import DataError
from strop.core.tokens import IGNORE_INDEX
from strop.data import Message, Piece, Row
from strop.data.encoding.chat import chat_ids, chat_text
from strop.data.message_text import content_text
from strop.data.rows import BrokenRowsError, Fault
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.dataset import TrainingData, row_facts

if TYPE_CHECKING:
    import datasets


@dataclasses.dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt as messages and as token ids."""

    messages: list[Message]
    ids: list[int]
    line: int
    """The line of its row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts(TrainingData[PromptRow]):
    """Prompts of a run; answers to them count as long as they may become."""

    records: dict[int, dict[str, Any]]
    """What rewards receive of each line: its columns, and `answer`, the row's own or None."""
    answer_length: int
    """Tokens that an answer may have."""

    @property
    def token_ids(self) -> list[list[int]]:
        """Tokens of each prompt with the longest answer."""
        return [row.ids + row.ids[-1:] * self.answer_length for row in self.train]

    @property
    def labels(self) -> list[list[int]]:
        """Labels of these."""
        return [
            [IGNORE_INDEX] * len(row.ids) + row.ids[-1:] * self.answer_length for row in self.train
        ]

    @property
    def texts(self) -> list[list[int]]:
        """Prompts: what the model learns to write is not known before."""
        return [row.ids for row in self.train]

    @property
    def sequences(self) -> Iterable[list[int]]:
        """Tokens of every prompt."""
        return (row.ids for row in (*self.train, *self.held_out))

    def table(self, rows: list[PromptRow]) -> "datasets.Dataset":
        """Return prompts as TRL takes them; rewards find the columns of a row by its line."""
        import datasets

        return datasets.Dataset.from_dict(
            {"prompt": [row.messages for row in rows], "line": [row.line for row in rows]}
        )


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> Prompts:
    """Return the prompts: conversations up to their last answer, which rewards receive as `answer`.

    Args:
        rows: read and split.
        tokenizer: the model's.
        settings: how long answers may be.
        limit: most tokens that the model takes; None has no limit.

    Raises:
        DataError: rows without a prompt, or too long for an answer; or fewer than a step takes.
    """
    whole = [_prompt(row, tokenizer) for row in rows.both]
    room = (settings.max_length or limit or math.inf) - settings.max_completion_length
    for i, row in enumerate(whole):
        if isinstance(row, PromptRow) and len(row.ids) > room:
            reason = (
                f"the prompt has {len(row.ids):,} tokens, which leaves none of "
                f"{settings.max_length or limit:,} for an answer of {settings.max_completion_length:,}; "
                "lower max_completion_length or shorten it"
            )
            whole[i] = Fault(row.line, reason, "too_long")
    if faults := [row for row in whole if isinstance(row, Fault)]:
        raise BrokenRowsError(rows.source, faults, len(whole))
    prompts = [row for row in whole if isinstance(row, PromptRow)]
    train, held_out = prompts[: len(rows.train)], prompts[len(rows.train) :]
    a_step = settings.batch_size // settings.num_generations
    if len(train) < a_step:
        raise DataError(
            f"{rows.source} has {len(train)} prompts to train on, and a step takes {a_step}: batch_size "
            f"{settings.batch_size} answers, {settings.num_generations} to each prompt; lower batch_size"
        )
    records = {row.line: {**rows.records.get(row.line, {}), **_reference(row)} for row in rows.both}
    longest = max(len(row.ids) for row in prompts)
    count = sum(len(row.ids) + settings.max_completion_length for row in train)
    facts = row_facts(rows, (), _note(settings, a_step)) | {
        "tokens": count * settings.num_generations,
        "supervised_tokens": len(train) * settings.num_generations * settings.max_completion_length,
        "longest_row": longest,
        "max_length": longest + settings.max_completion_length,
        "cut_lines": [],
        "cut_tokens": 0,
        "divided_lines": [],
        "sha256": _digest(train, held_out, records),
    }
    samples = [
        [Piece(chat_text(tokenizer, row.messages), "context", len(row.ids))] for row in train[:5]
    ]
    return Prompts(train, held_out, facts, samples, records, settings.max_completion_length)


def _prompt(row: Row, tokenizer: Any) -> PromptRow | Fault:
    if row.messages is None:
        return Fault(
            row.line, "it is a plain text, and nothing in it asks for an answer", "no_prompt"
        )
    answers = [i for i, message in enumerate(row.messages) if message["role"] == "assistant"]
    last = answers[-1] if answers and answers[-1] == len(row.messages) - 1 else len(row.messages)
    turns = row.messages[:last]
    if row.tools or any(message.get("tool_calls") for message in turns):
        return Fault(row.line, "it has tools, which sampled answers cannot call", "tools")
    if not turns:
        return Fault(row.line, "it has no prompt before its answer", "no_prompt")
    plain = [{"role": m["role"], "content": content_text(m)} for m in turns]
    return PromptRow(plain, chat_ids(tokenizer, plain), row.line)


def _reference(row: Row) -> dict[str, str]:
    """Return the row's own answer, if it has one."""
    if row.messages is None or row.messages[-1]["role"] != "assistant":
        return {}
    return {"answer": content_text(row.messages[-1])}


def _note(settings: Settings, a_step: int) -> str:
    given = settings.reward if isinstance(settings.reward, str) else ",".join(settings.reward or ())
    rewards = " and ".join(filter(None, (given, settings.environment)))
    return (
        f"method {settings.method}: to each of {a_step} prompts a step {settings.num_generations} answers "
        f"of up to {settings.max_completion_length} tokens are drawn; those that {rewards} rewards more "
        "than their group become likelier"
    )


def _digest(train: Sequence[PromptRow], held_out: Sequence[PromptRow], records: Any) -> str:
    digest = hashlib.sha256()
    for part in (train, held_out):
        digest.update(f"part {len(part)} ".encode())
        for row in part:
            digest.update(array("q", [row.line, len(row.ids), *row.ids]).tobytes())
    digest.update(json.dumps(records, sort_keys=True, default=str).encode())
    return digest.hexdigest()
