"""Says what got better and what got worse, with confidence intervals."""

from strop.evaluation.measure import compare, evaluate, opened
from strop.evaluation.result import Estimate, Evaluation

__all__ = ["Estimate", "Evaluation", "compare", "evaluate", "opened"]
