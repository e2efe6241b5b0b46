"""Measures models on rows they have not seen, with confidence intervals."""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.evaluation.answers.predict import Answering, predict
    from strop.evaluation.measure import compare, evaluate
    from strop.evaluation.opening import opened
    from strop.evaluation.plan import Metrics
    from strop.evaluation.result import Comparison, Difference, Estimate, Evaluation

__all__ = [
    "Answering",
    "Comparison",
    "Difference",
    "Estimate",
    "Evaluation",
    "Metrics",
    "compare",
    "evaluate",
    "opened",
    "predict",
]

__getattr__ = public(
    __name__,
    {
        "Answering": "strop.evaluation.answers.predict",
        "Comparison": "strop.evaluation.result",
        "Difference": "strop.evaluation.result",
        "Estimate": "strop.evaluation.result",
        "Evaluation": "strop.evaluation.result",
        "Metrics": "strop.evaluation.plan",
        "compare": "strop.evaluation.measure",
        "evaluate": "strop.evaluation.measure",
        "opened": "strop.evaluation.opening",
        "predict": "strop.evaluation.answers.predict",
    },
)
