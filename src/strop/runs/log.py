"""log.jsonl, evaluation_rows.jsonl and drawn_answers.jsonl of a run, read again, line by line."""

import json
from pathlib import Path
from typing import Any

from strop.core.files import reading

LOG = "log.jsonl"
"""In the folder of a run: a line for each step, and for each loss on the held-out rows."""
DRAWN_ANSWERS = "drawn_answers.jsonl"
"""In the folder of a run that learns from rewards: of each step its best and its worst answer."""
_HINT = "put the file back from a copy, or remove that line"


def read_log(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; one that was cut off by a crash is left out.

    Raises:
        DataError: a line is not one that training wrote.
    """
    if not file.is_file():
        return []
    with reading(file, _HINT):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    values = []
    for number, line in enumerate(lines, 1):
        with reading(f"{file} line {number}", _HINT):
            if line.endswith("}\n"):
                values.append(_checked(json.loads(line)))
    return values


def read_evaluation_rows(file: Path) -> list[dict[str, Any]]:
    """Return the lines of evaluation_rows.jsonl; none before an evaluation.

    Raises:
        DataError: a line is not one that an evaluation wrote.
    """
    if not file.is_file():
        return []
    with reading(file, "remove it, and evaluate the run again"):
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def read_drawn_answers(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of drawn_answers.jsonl in the folder of a run; none where it draws none.

    Raises:
        DataError: a line is not one that training wrote.
    """
    file = folder / DRAWN_ANSWERS
    if not file.is_file():
        return []
    with reading(file, _HINT):
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def _checked(line: Any) -> dict[str, Any]:
    """Return a line of the log, if it is one."""
    numbers = {**line, "step": line["step"]}
    if not all(value is None or isinstance(value, int | float) for value in numbers.values()):
        raise ValueError("it holds something else than numbers")
    if "loss" in line and not {"seconds", "tokens", "epoch"} <= set(line):
        raise ValueError("it lacks the seconds, the tokens or the epoch of a step")
    return numbers
