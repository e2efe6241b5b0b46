"""Quantisation of a model into a folder."""

import time
from pathlib import Path
from typing import Any

from strop.core.progress import Progress, silent


def quantize(
    model: str,
    out: str,
    *,
    budget: float | None = None,
    max_kl: float | None = None,
    calibrate: str | None = None,
    adapter_rank: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Quantise as `strop.quantize` does; return its report with the folder and the seconds.

    Raises:
        StropError: the model, the text, the budget or the folder cannot be used.
    """
    from strop.models.files.places import check_name
    from strop.models.quantized.arguments import checked_budget

    check_name(model)
    checked_budget(Path(out), budget, max_kl, adapter_rank)
    from strop.models.quantized import folder

    start = time.perf_counter()
    report = folder.quantize(
        model,
        out,
        budget=budget,
        max_kl=max_kl,
        calibrate=calibrate,
        adapter_rank=adapter_rank,
        progress=progress,
    )
    return {"out": out, "seconds": round(time.perf_counter() - start, 1), **report}
