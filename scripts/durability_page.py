"""Write docs/durability.md from the results of benchmarks/trials."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "durability.md"
HEAD = """# Attempts to break strop

Trials that kill, damage and starve commands, and give them odd data, files and requests. Every
trial runs its commands in child processes, each with 60 seconds and 2 GB of resident memory; a tiny
random Llama stands for the model. A trial passes if nothing in it is

* a traceback, or an end by a signal that nobody sent;
* longer than 60 seconds, or larger than 2 GB;
* an exit code without a message that says why;
* another result without a word: the adapter, its log, activation statistics, exports, evaluations
  and answers are compared byte for byte with those of an undisturbed command.

Trials are made from seeds, so `python -m benchmarks.trials --only NAME` repeats one;
`python -m benchmarks.trials` runs all, goes on where it was interrupted, and a sample is among the
tests. Most processes are forks of one that has imported everything, which run the command line as
the shell would; those called *new interpreters* start as a user starts them.

"""
PARTS = {
    "kills": "SIGKILL, SIGTERM, SIGINT or SIGHUP at a random moment, some of them several times: "
    "train (126; cold caches and new interpreters among them), quantize (24), export with its "
    "certificate (20), eval (20), serve (10); then `--resume` or the same command",
    "load": "one training started 50 times while four processes are busy, five of them new "
    "interpreters: one number format, the same bytes",
    "runs": "a file of a killed or a finished run, or its base model, damaged or replaced; then "
    "resume, eval, export, chat",
    "models": "a file of a model's folder cut, emptied, flipped, of another type, or a link",
    "caches": "compiled code, 4-bit codes, plans, digests and the chosen format damaged",
    "gguf": "GGUF files damaged, most in the header; a run's export damaged",
    "rows": "JSONL, JSON, CSV, texts and Parquet with values of other types, names twice, other "
    "encodings, gzip, bytes damaged; JSON lines that are read are compared with Python's reader",
    "disk": "a file system that fills up, a limit on the size of files, folders read-only, no "
    "HOME, a user without a name, files that may not be read",
    "memory": "limits of address space and of control groups, where an end by a signal passes only "
    "after a plan that said that the limit leaves too little; single rows of 1 to 8 MB",
    "server": "each field of a request with values of other types, odd HTTP, keys, hosts, "
    "origins, half requests, random requests, wrong arguments",
    "network": "no network: local names need none, hub ids end in a sentence; a package `kernels` "
    "is never imported (new interpreters)",
    "hostile": "Python files by the names of libraries beside the data, which never run (new "
    "interpreters, and the processes that open exports)",
}
"""What each part tries."""


def page() -> str:
    """Return the page as it should be."""
    results = read("cpu/trials.json")
    if not results:
        return HEAD + "No results yet.\n"
    parts = results["parts"]
    cells = [["part", "what is tried", "trials", "passed", "longest, s"]]
    for name, text in PARTS.items():
        if name in parts:
            cells.append([name, text, *counts(parts[name]), f"{parts[name]['seconds']:.0f}"])
    total = {key: sum(part[key] for part in parts.values()) for key in ("trials", "passed")}
    cells.append(["**all**", "", *counts(total), ""])
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    where = (
        f"\n\nSeed {results['seed']}, commits {', '.join(results['commits'])}; {versions}; "
        f"{results['processor']}, on a machine that other work kept busy. The longest trial is of all "
        "its commands together. Trials that failed at first were run again after the fault was "
        "mended; the table has their last verdicts.\n\n"
    )
    return HEAD + rows_of(cells) + where + missing(parts) + failures(results["failed"])


def counts(part: dict[str, Any]) -> list[str]:
    """Return the numbers of a part."""
    return [f"{part['trials']:,}", f"{part['passed']:,}"]


def missing(parts: dict[str, Any]) -> str:
    """Return which parts were not run as a whole."""
    short = [
        f"{name} {part['trials']} of {part['planned']}"
        for name, part in parts.items()
        if part["trials"] < part["planned"]
    ]
    return f"Not all trials of some parts were run: {', '.join(short)}.\n\n" if short else ""


def failures(failed: list[dict[str, str]]) -> str:
    """Return what did not pass."""
    if not failed:
        return "All passed.\n"
    lines = [f"* `{f['name']}` ({f['kind']}): {visible(f['why'])}" for f in failed]
    return "## What did not pass\n\n" + "\n".join(lines) + "\n"


def visible(why: str) -> str:
    """Return what was seen, short and without marks of Markdown."""
    return "".join(c if c.isprintable() and c not in "`|*_<>" else " " for c in why)[:240]


if __name__ == "__main__":
    write_page(PAGE, page())
