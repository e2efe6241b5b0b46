"""Answers that a model generates to rows, in batches."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from strop.core.errors import DataError
from strop.core.progress import Progress, silent
from strop.core.tokens import context_length
from strop.data import Row
from strop.data.encoding.encode import prompt
from strop.data.rows import Fault
from strop.evaluation.labels import unanswered, with_answer
from strop.models.sampling import Sampling, sample

MOST_TOKENS = 256
"""Longest answer in tokens where nothing says how long the right ones are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """An answer that a model generated."""

    text: str
    sure: float
    """Geometric mean of the probabilities of its tokens, the end token included."""


def generated(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    max_new_tokens: int,
    progress: Progress = silent,
) -> list[Generated | Fault]:
    """Return the likeliest answer to each row, token by token, or why there is none."""
    prompts = list(_prompts(model, tokenizer, rows))
    usable = [ids for ids in prompts if not isinstance(ids, Fault)]
    settings = Sampling(max_new_tokens=max_new_tokens)
    answers = iter(sample(model, tokenizer, usable, settings, progress=progress) if usable else ())
    results: list[Generated | Fault] = []
    for ids in prompts:
        if isinstance(ids, Fault):
            results.append(ids)
            continue
        answer = next(answers)
        mean = sum(answer.log_probs) / max(1, len(answer.log_probs))
        results.append(Generated(answer.text, math.exp(mean)))
    return results


def _prompts(model: Any, tokenizer: Any, rows: Sequence[Row]) -> Iterator[list[int] | Fault]:
    room = context_length(model.config)
    for row in rows:
        if row.messages is None:
            yield Fault(row.line, "a plain text asks for no answer")
            continue
        try:
            ids, _ = prompt(with_answer(row, "?") if unanswered(row) else row, tokenizer)
        except DataError as e:
            yield Fault(row.line, str(e))
            continue
        if room is not None and len(ids) >= room:
            yield Fault(
                row.line, f"the prompt has {len(ids):,} tokens and the model takes {room:,}"
            )
        else:
            yield ids
