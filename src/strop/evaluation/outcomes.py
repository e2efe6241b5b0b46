"""What a model does on each row: the loss of its answer, the likelihood of labels, its own answer."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from strop.core.progress import Progress, silent
from strop.core.tokens import context_length
from strop.data import Row
from strop.data.encoding.encode import encoded
from strop.data.rows import Example, Fault
from strop.evaluation.labels import reasons, right_answer, with_answer
from strop.evaluation.scoring import PADDED_TOKENS, score_tokens
from strop.models.quantized.inference_layout import evaluating


@dataclasses.dataclass(slots=True, kw_only=True)
class Outcome:
    """What one model does on one row."""

    loss: float | None = None
    """Sum over the answer's tokens of -log p; None for a row without an answer."""
    tokens: int = 0
    """Tokens of the answer."""
    labels: list[float] | None = None
    """Total log-probability of each label, in the order of the labels."""
    answer: str | None = None
    """The answer that the model generates."""
    choices: list[tuple[float, int]] | None = None
    """Total log-probability and number of tokens of each choice of a question."""


def score_rows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    labels: Sequence[str] | None,
    progress: Progress = silent,
) -> tuple[list[Outcome], list[Fault]]:
    """Return the loss of each row's answer and the likelihood of each label, and the faults.

    Rows with a fault have neither. Reasoning of a row counts in the loss; labels are scored
    without it, as it would tell them.
    """
    questions: list[Row] = []
    label_places: list[list[int]] = []
    answer_places: list[int | None] = []
    for row in rows:
        of_labels = [with_answer(row, label) for label in labels or () if row.messages]
        label_places.append(list(range(len(questions), len(questions) + len(of_labels))))
        questions += of_labels
        answer = right_answer(row)
        if of_labels and labels and answer in labels and not reasons(row):
            answer_places.append(label_places[-1][labels.index(answer)])
        elif row.messages is None or row.messages[-1]["role"] == "assistant":
            answer_places.append(len(questions))
            questions.append(row)
        else:
            answer_places.append(None)
    scored = scores_of(model, tokenizer, questions, progress)
    outcomes: list[Outcome] = []
    faults: dict[int, Fault] = {}
    for row, places, answered in zip(rows, label_places, answer_places, strict=True):
        outcome = Outcome()
        of_labels_scored = [scored[place] for place in places]
        of_answer = None if answered is None else scored[answered]
        if fault := next((s for s in (*of_labels_scored, of_answer) if isinstance(s, Fault)), None):
            faults[row.line] = fault
        else:
            if isinstance(of_answer, Tensor):
                outcome.loss, outcome.tokens = -_sum(of_answer), of_answer.numel()
            if places:
                outcome.labels = [_sum(s) for s in of_labels_scored if isinstance(s, Tensor)]
        outcomes.append(outcome)
    return outcomes, list(faults.values())


def _sum(log_probs: Tensor) -> float:
    return float(log_probs.double().sum())


def scores_of(
    model: Any, tokenizer: Any, rows: Sequence[Row], progress: Progress = silent
) -> list[Tensor | Fault]:
    """Return the log-probabilities of the answer tokens of each row, or its fault.

    One of more than `PADDED_TOKENS` that goes beyond the model's context has one: nothing was
    trained to read it, and it would take memory without bound.
    """
    room = context_length(model.config)
    examples = [_within(room, example) for example in encoded(rows, tokenizer)]
    pairs = [(e.ids, e.labels) for e in examples if isinstance(e, Example)]
    with inference_only(model):
        scored = score_tokens(model, pairs, progress=progress)
    remaining = iter(scored)
    return [e if isinstance(e, Fault) else next(remaining).log_probs for e in examples]


def _within(room: int | None, example: Example | Fault) -> Example | Fault:
    if isinstance(example, Fault) or len(example.ids) <= max(PADDED_TOKENS, room or 0):
        return example
    ends = "" if room is None else f", and the model's context ends at {room:,}"
    reason = f"it has {len(example.ids):,} tokens{ends}"
    return Fault(example.line, reason, "too_long")


@contextlib.contextmanager
def inference_only(model: Any) -> Iterator[None]:
    """Hold the model in eval mode with nothing to train inside the block, and as it was after it.

    What is trained may not be folded into other weights or computed in a fused block.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model):
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
