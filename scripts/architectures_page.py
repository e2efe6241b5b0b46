"""Write docs/architectures.md from its results file, so that no line in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "architectures.md"
WAYS = {
    "compact": "concatenated rows",
    "rows": "row by row",
    "plain": "as it was written",
    "fails plain": "fails in plain TRL too",
    "not built": "not built tiny",
    "traceback": "**fails with strop alone**",
}
HEAD = """# Architectures

Causal language models of transformers, each built tiny with random weights in float32 and given four
ragged rows, two of which begin alike: loss, every gradient and the evaluation of each row are compared
with the model's own forward, padded on the right and on the left. *Equal* means within what rounding
explains (see `strop.forward.guard.rounding`).

A model of a [known family](design.md) runs through strop's own blocks. Any other is tried before its
first batch, once per architecture, configuration, version and setting, and the result is kept in the
cache folder: **concatenated rows** where that gives the model's own numbers, else **row by row**
through its own forward, without padding and up to the last supervised token, else **as it was written**.
Each way is exact, and a run says once which one it takes and why.

`benchmarks/architectures.py` makes the numbers below, `make pages` this page.
"""


def numbers_of(results: dict[str, Any]) -> str:
    """Return whether an architecture's numbers are the plain ones."""
    sides = [results[side] for side in ("right", "left") if side in results]
    faults = [side["fault"] for side in sides if side.get("fault")]
    scored = results.get("evaluation", "equal")
    if "differ" in scored:
        faults.append(f"evaluation: {scored}")
    if faults:
        return f"**{faults[0]}**"
    if not any("fault" in side for side in sides):
        return ""
    return "equal" if scored == "equal" else "equal; evaluation not compared"


def page() -> str:
    """Return the page as it should be."""
    stored = read("cpu/architectures.json")
    cells = [["model type", "padded on the right", "padded on the left", "numbers"]]
    for kind, results in sorted(stored["architectures"].items()):
        right, left = (results.get(side, results) for side in ("right", "left"))
        cells.append([f"`{kind}`", WAYS[right["way"]], WAYS[left["way"]], numbers_of(results)])
    counts: dict[str, int] = {}
    for row in cells[1:]:
        counts[row[1]] = counts.get(row[1], 0) + 1
    total = [["with rows padded on the right", "architectures"]]
    total += [[way, str(n)] for way, n in sorted(counts.items(), key=lambda item: -item[1])]
    versions = ", ".join(f"{n} {stored['versions'][n]}" for n in ("transformers", "trl", "torch"))
    return f"""{HEAD}
{versions}; {stored["machine"]["cpu"]}; commit {stored["commit"][:7]}.

{rows_of(total)}

{rows_of(cells)}
"""


if __name__ == "__main__":
    write_page(PAGE, page())
