"""What a run forgot: general texts and questions before and after, beside rows of the user's."""

import functools
from collections.abc import Mapping
from pathlib import Path

from strop.data.reading.columns import Columns
from strop.evaluation.opening import labels_for
from strop.evaluation.plan import Metrics, Plan, plan_for
from strop.evaluation.rows import EvaluationRows, rows_of

_PACKAGED = Path(__file__).parent / "retention"


@functools.cache
def _packaged() -> Mapping[str, EvaluationRows]:
    """Return the packaged texts and questions."""
    paragraphs = (_PACKAGED / "general.txt").read_text(encoding="utf-8").splitlines()
    texts = [{"text": paragraph} for paragraph in paragraphs]
    return {
        "text": rows_of(texts, Columns(), None),
        "questions": rows_of(_PACKAGED / "questions.jsonl", Columns(ignored=("kind",)), None),
    }


def retention_sets(metrics: Metrics, seed: int) -> dict[str, tuple[EvaluationRows, Plan]]:
    """Return what is measured to see what was forgotten, by name.

    The packaged texts are measured by their perplexity, the packaged questions (facts,
    instructions, arithmetic) by the likeliest of their choices, a file of the user's by what suits
    it.

    Args:
        metrics: whether and with which rows of the user's own; who is shown progress.
        seed: of the rows drawn.
    """
    packaged = _packaged() if metrics.forgetting else {}
    named = {
        "text": Metrics(names=["perplexity"], progress=metrics.progress),
        "questions": Metrics(names=["choice_accuracy"], progress=metrics.progress),
    }
    sets = {
        name: (rows, plan_for(rows, None, named[name], None, seed))
        for name, rows in packaged.items()
    }
    if metrics.retain is not None:
        rows = rows_of(metrics.retain, Columns(), None)
        suited = Metrics(progress=metrics.progress)
        sets["retain"] = (rows, plan_for(rows, labels_for((), rows), suited, None, seed))
    return sets
