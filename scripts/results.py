"""Results on file, and tables of them in Markdown."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def read(name: str) -> dict[str, Any]:
    """Return one results file, empty where its script has not run."""
    file = RESULTS / name
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return results


def rows_of(cells: list[list[str]]) -> str:
    """Return a table, its first row the head."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])
