"""Measures models on rows they have not seen, with confidence intervals."""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.evaluation.measure import compare, evaluate
    from strop.evaluation.opening import opened
    from strop.evaluation.result import Comparison, Difference, Estimate, Evaluation

__all__ = ["Comparison", "Difference", "Estimate", "Evaluation", "compare", "evaluate", "opened"]

__getattr__ = public(
    __name__,
    {
        "Comparison": "strop.evaluation.result",
        "Difference": "strop.evaluation.result",
        "Estimate": "strop.evaluation.result",
        "Evaluation": "strop.evaluation.result",
        "compare": "strop.evaluation.measure",
        "evaluate": "strop.evaluation.measure",
        "opened": "strop.evaluation.opening",
    },
)
