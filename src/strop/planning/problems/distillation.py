"""What is wrong with beta, and with the settings of distillation."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from strop.planning import rewards

if TYPE_CHECKING:
    from strop.planning.settings import Settings


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with teacher, top_k, lmbda and beta."""
    if settings.beta < 0 or (settings.beta == 0 and not _may_be_zero(settings)):
        yield f"beta is {settings.beta}; it must be above 0, and may be 0 with grpo, rloo and distill"
    distills = settings.method == "distill" or (settings.method == "auto" and settings.teacher)
    if settings.method == "distill" and settings.teacher is None:
        yield "method distill needs a teacher: --teacher RUN, or the name or folder of a model"
    if not distills:
        for name in ("teacher", "top_k", "lmbda"):
            if getattr(settings, name):
                yield f"{name} is of method distill, and the method is {settings.method}"
        return
    if settings.beta > 1:
        yield (
            f"beta is {settings.beta}; of method distill it is from 0, KL(teacher || student), to 1, "
            "KL(student || teacher)"
        )
    if not 0 <= settings.lmbda <= 1:
        yield f"lmbda is {settings.lmbda}; it is a share of steps, from 0 to 1"
    if settings.lmbda and settings.top_k:
        yield (
            "top_k is stored for the answers of the data, and lmbda lets the student draw others; "
            "leave one of them out"
        )


def _may_be_zero(settings: "Settings") -> bool:
    return rewards.reinforced(settings) or settings.teacher is not None
