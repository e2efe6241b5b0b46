"""Write the table of the demo into docs/evaluation.md, from a results file.

`python scripts/evaluation_page.py runs/demo` records an evaluated run there first.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import RESULTS, read, rows_of
from wrap import write_page

from strop.core.files import write_json
from strop.metrics.names import format_measure, is_share
from strop.runs.run import Run

PAGE = Path(__file__).parent.parent / "docs" / "evaluation.md"
FILE = "evaluation/demo.json"
BEGIN, END = "<!-- demo: by scripts/evaluation_page.py -->\n", "<!-- end of demo -->"
TITLES = {"text": "general texts", "questions": "questions"}
SHOWN = {"text": "perplexity of general texts", "questions": "choice accuracy of questions"}
"""The measure of each set by which forgetting is seen."""


def record(run: Run) -> None:
    """Write the evaluation of a run, and with what it was computed, into the results file."""
    facts, evaluation = run.record, run.evaluation or {}
    write_json(
        RESULTS / FILE,
        {
            "date": facts["started"][:10],
            "commit": commit(),
            "versions": facts["versions"],
            "processor": processor_name(),
            "threads": facts["machine"]["threads"],
            "rows_of_training": facts["data"]["rows"],
            **{name: evaluation[name] for name in ("base", "tuned", "difference")},
            "forgetting": evaluation.get("forgetting", {}),
        },
    )


def commit() -> str:
    """Return the commit that the evaluation ran from."""
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def processor_name() -> str:
    """Return the name of the processor as people know it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def measures(compared: Mapping[str, Any], beside: str = "") -> list[list[str]]:
    """Return the base, the tuned model and their difference for each measure."""
    difference, models = compared["difference"], [compared["base"], compared["tuned"]]
    shares = {name: is_share(name, models) for name in difference}
    return [
        [
            f"{name.replace('_', ' ')}{beside}",
            *(format_measure(of[name], share) for of in models),
            f"**{format_measure(difference[name], share)}**",
        ]
        for name, share in sorted(shares.items(), key=lambda of_one: not of_one[1])
    ]


def block() -> str:
    """Return what stands between the markers."""
    results: dict[str, Any] = read(FILE)
    if not results:
        return "No results have been recorded yet."
    cells = [["", "base", "tuned", "difference, 95 % interval"], *measures(results)]
    for name, compared in results["forgetting"].items():
        shown = SHOWN[name]
        cells += [row for row in measures(compared, f" of {TITLES[name]}") if row[0] == shown]
    return (
        f"{results['tuned']['rows']:,} sentences that the model did not see, after "
        f"{results['rows_of_training']:,} that it did; {results['processor']}, "
        f"{results['threads']} threads, torch {results['versions']['torch']}, transformers "
        f"{results['versions']['transformers']}, commit {results['commit']}, {results['date']}.\n\n"
        f"{rows_of(cells)}"
    )


def page() -> str:
    """Return the page with its block written anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{block()}\n{END}{after}"


def main() -> None:
    """Record a run, if one is named, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", nargs="?", help="folder of an evaluated run to record")
    if (folder := parser.parse_args().run) is not None:
        record(Run.open(folder))
        print(json.dumps(json.loads((RESULTS / FILE).read_text())["difference"]["accuracy"]))
    write_page(PAGE, page())


if __name__ == "__main__":
    main()
