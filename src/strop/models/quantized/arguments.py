"""What a quantisation is asked for, checked before anything heavy is imported."""

import math
from pathlib import Path

from strop.core.errors import ConfigError


def checked_budget(
    out: Path, budget: float | None, max_kl: float | None, adapter_rank: int
) -> float | None:
    """Return the budget, which has a default.

    Raises:
        ConfigError: lists every fault.
    """
    wrong = []
    if budget is not None and max_kl is not None:
        wrong.append(f"budget is {budget:g} and max_kl is {max_kl:g}; give one of them")
    for name, value in (("budget", budget), ("max_kl", max_kl)):
        if value is not None and not 0 < value < math.inf:
            wrong.append(f"{name} is {value:g}; it must be a number above 0")
    if adapter_rank < 0:
        wrong.append(f"adapter_rank is {adapter_rank}; it must be at least 0")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        wrong.append(f"out is {out}, which is not an empty folder; give another one")
    if wrong:
        raise ConfigError("\n  ".join(["the model cannot be quantised so:", *wrong]))
    return 1.10 if budget is None and max_kl is None else budget
