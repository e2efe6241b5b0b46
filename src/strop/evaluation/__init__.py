"""Measures models on rows they have not seen, with confidence intervals."""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.evaluation.measure import compare, evaluate, opened
    from strop.evaluation.result import Estimate, Evaluation

__all__ = ["Estimate", "Evaluation", "compare", "evaluate", "opened"]

__getattr__ = public(
    __name__,
    {
        "Estimate": "strop.evaluation.result",
        "Evaluation": "strop.evaluation.result",
        "compare": "strop.evaluation.measure",
        "evaluate": "strop.evaluation.measure",
        "opened": "strop.evaluation.measure",
    },
)
