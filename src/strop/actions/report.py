"""Pages about runs: one of each run, or one that compares several."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any


def report(runs: Sequence[str], out: Path | None = None) -> dict[str, Any]:
    """Write the page of a run, or one page that compares several; nothing is measured again.

    Args:
        runs: run folders.
        out: file to write; None takes report.html of the run, or comparison.html here for several.

    Returns:
        `report`: the page; for several runs also `between`: of each after the first its measures less
        the first's, paired row by row, None where it was evaluated on other rows.

    Raises:
        ConfigError: a folder is no run.
        DataError: a file of a run is damaged.
    """
    from strop.runs import report
    from strop.runs.run import Run

    opened = [Run.open(run) for run in runs]
    if len(opened) == 1:
        return {"report": str(report.write(opened[0], out)), "runs": list(runs)}
    from strop.evaluation.recorded import differences_between
    from strop.runs.report.comparison import write_comparison

    between = [
        None if of_one is None else {name: asdict(change) for name, change in of_one.items()}
        for of_one in differences_between(opened)
    ]
    page = write_comparison(opened, between, out or Path("comparison.html"))
    return {"report": str(page), "runs": list(runs), "between": between}
