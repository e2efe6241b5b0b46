"""Results on file, and how pages show them: tables in Markdown, between the markers of a page."""

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- numbers: [^\n]* -->\n).*?(<!-- end of numbers -->)", re.DOTALL)
"""What a page has of numbers, between its markers."""


def read(name: str) -> dict[str, Any]:
    """Return one results file, empty where its script has not run."""
    file = RESULTS / name
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return results


def rows_of(cells: list[list[str]]) -> str:
    """Return a table, its first row the head."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def with_numbers(text: str, block: str) -> str:
    """Return the text of a page with another block between its markers."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", text)


def machine(results: dict[str, Any]) -> str:
    """Return where it was measured."""
    of = results["machine"]
    return f"{of['cores']} cores, {of['cpu']}, commit {results['commit'][:7]}"
