"""Answers for the rows of a file: the same columns, and what the model answers to each row."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError
from strop.core.files import check_new, written_whole
from strop.core.progress import Progress, silent
from strop.data.reading.columns import Columns
from strop.data.rows import Fault, Row
from strop.data.writing import check_writable, write_records
from strop.evaluation.answers.generate import MOST_TOKENS, Generated, generated
from strop.evaluation.answers.rewarded import rewarded
from strop.evaluation.answers.unanswered import rows_to_answer
from strop.evaluation.labels import with_answer
from strop.evaluation.opening import columns_for, opened, run_of, trained_labels
from strop.evaluation.outcomes import scores_of
from strop.evaluation.rows import EvaluationRows, content, unused
from strop.runs.reward_model import RewardModel, rewards_answers

CHUNK = 64
"""Rows that are answered at once, and after which a killed process goes on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was written."""

    path: Path
    rows: int
    """Rows that were answered."""
    resumed: int
    """Of these, rows that an earlier process had answered."""
    columns: tuple[str, ...]
    """Columns that were added."""
    labels: tuple[str, ...] | None
    """Labels among which each answer was chosen; None where answers are generated."""
    notes: tuple[str, ...]
    """Sentences about rows without an answer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How rows are answered."""

    labels: Sequence[str] | None = None
    """Labels to choose among; None takes those of a run's training rows, if they are labels."""
    max_new_tokens: int = MOST_TOKENS
    """Longest generated answer."""
    limit: int | None = None
    """Answer only the first rows."""
    columns: Columns | None = None
    """How the file's columns are read, where not as those of the run's own data."""
    overwrite: bool = False
    """Replace a file that is there."""
    progress: Progress = silent

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: one cannot work.
        """
        for name in ("max_new_tokens", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if self.labels is not None and len({*self.labels}) < 2:
            raise ConfigError(f"labels are {', '.join(self.labels)}; give two or more")


def predict(
    run_or_model: Any, source: Any, out: str | Path, answering: Answering | None = None
) -> Prediction:
    """Write the rows of a file with an answer to each.

    Where a run was trained on labels, the likeliest label is the answer, and each label has a
    column with its probability; elsewhere the answer is generated. `confidence` is the probability
    of the label, or the geometric mean of the probabilities of the answer's tokens. A run that learned to
    reward gives the rows' answers a `reward`, pairs one for each answer. A process
    that is killed leaves `OUT.partial`; the same call goes on from there and ends with the same file.

    Args:
        run_or_model: a Run, its folder, a checkpoint, a model's name or folder, or a pair.
        source: what `strop.data.read` takes; right answers in it are passed over.
        out: file to write: JSONL, CSV, TSV or Parquet.
        answering: how rows are answered.

    Raises:
        DataError: the rows cannot be read, or none can be used.
        ConfigError: `out` is there already, cannot be written, or was begun in another way.
    """
    answering = answering or Answering()
    path = Path(out)
    check_writable(path)
    check_new(path, overwrite=answering.overwrite)
    rows, faults = rows_to_answer(source, *columns_for(run_or_model, answering.columns))
    if answering.limit is not None:
        rows = rows.at(range(min(answering.limit, len(rows.rows))))
    labels = list(answering.labels) if answering.labels else trained_labels(run_or_model)
    began = _Partial(
        path.with_name(f"{path.name}.partial"), _key(run_or_model, rows, labels, answering)
    )
    resumed = len(began.answers)
    if resumed < len(rows.rows):
        _answer(began, run_or_model, rows, labels, answering)
    names = _names(rows, began.answers)
    added = [{names[k]: v for k, v in answer.items() if k in names} for answer in began.answers]
    write_records(path, rows.records, added)
    began.path.unlink(missing_ok=True)
    failed = [
        Fault(row.line, answer["error"])
        for row, answer in zip(rows.rows, began.answers, strict=True)
        if "error" in answer
    ]
    return Prediction(
        path=path,
        rows=len(rows.rows) - len(failed),
        resumed=resumed,
        columns=tuple(names.values()),
        labels=None if labels is None else tuple(labels),
        notes=tuple(unused([*faults, *failed])),
    )


def _answer(
    began: "_Partial",
    run_or_model: Any,
    rows: EvaluationRows,
    labels: Sequence[str] | None,
    answering: Answering,
) -> None:
    run = run_of(run_or_model)
    if run is not None and rewards_answers(run):
        judge = RewardModel.of(run)
        for start in range(len(began.answers), len(rows.rows), CHUNK):
            answering.progress("rewarding", start, len(rows.rows))
            began.add(rewarded(judge, rows.rows[start : start + CHUNK]))
        return
    model, tokenizer = opened(run_or_model)
    for start in range(len(began.answers), len(rows.rows), CHUNK):
        answering.progress("answering", start, len(rows.rows))
        chunk = rows.rows[start : start + CHUNK]
        if labels is None:
            answers = generated(model, tokenizer, chunk, answering.max_new_tokens)
            began.add([_of_text(answer) for answer in answers])
        else:
            began.add(_of_labels(model, tokenizer, chunk, labels))
    answering.progress("answering", len(rows.rows), len(rows.rows))


def _of_text(answer: Generated | Fault) -> dict[str, Any]:
    if isinstance(answer, Fault):
        return {"answer": "", "confidence": None, "error": answer.reason}
    return {"answer": answer.text, "confidence": round(answer.sure, 6)}


def _of_labels(
    model: Any, tokenizer: Any, rows: Sequence[Row], labels: Sequence[str]
) -> list[dict[str, Any]]:
    questions = [with_answer(row, label) for row in rows for label in labels]
    scored = iter(scores_of(model, tokenizer, questions))
    answers: list[dict[str, Any]] = []
    for _ in rows:
        of_labels = [next(scored) for _ in labels]
        fault = next((s for s in of_labels if isinstance(s, Fault)), None)
        if fault is not None:
            empty = {f"probability_{label}": None for label in labels}
            answers.append({"answer": "", "confidence": None, **empty, "error": fault.reason})
            continue
        totals = torch.tensor([float(s.double().sum()) for s in of_labels])  # type: ignore[union-attr]
        chances = [round(chance, 6) for chance in totals.double().softmax(0).tolist()]
        best = int(totals.argmax())
        each = {f"probability_{label}": c for label, c in zip(labels, chances, strict=True)}
        answers.append({"answer": labels[best], "confidence": chances[best], **each})
    return answers


def _names(rows: EvaluationRows, answers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the column of each part of an answer; a name that the data has gets `predicted_`."""
    taken = {name for record in rows.records for name in record}
    parts = [name for name in answers[0] if name != "error"] if answers else []
    if any("error" in answer for answer in answers):
        parts.append("error")
    names: dict[str, str] = {}
    for part in parts:
        name = part
        while name in taken:
            name = f"predicted_{name}"
        names[part] = name
    return names


def _key(
    run_or_model: Any, rows: EvaluationRows, labels: Sequence[str] | None, answering: Answering
) -> str:
    """Return the SHA-256 of all that answers depend on."""
    run = run_of(run_or_model)
    weights = str(run_or_model) if run is None else json.dumps(run.record.get("adapter"))
    tokens = None if labels else answering.max_new_tokens
    parts = [weights, [content(row) for row in rows.rows], labels, tokens, CHUNK]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Partial:
    """Answers that are written so far: a line for each row, behind a line with the key."""

    def __init__(self, path: Path, key: str) -> None:
        """Read what is there, up to the last whole chunk.

        Raises:
            ConfigError: it was begun on other rows, by another model or with other settings.
        """
        self.path, self.answers = path, list[dict[str, Any]]()
        lines: list[str] = []
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines(keepends=True) if line.endswith("}\n")]
        if lines and json.loads(lines[0]) != {"key": key}:
            raise ConfigError(
                f"{path} was begun on other rows, by another model or with other settings; remove it, "
                "or name another file"
            )
        whole = (len(lines) - 1) // CHUNK * CHUNK if lines else 0
        self.answers = [json.loads(line) for line in lines[1 : 1 + whole]]
        with written_whole(path) as scratch:
            scratch.write_text("".join([json.dumps({"key": key}) + "\n", *lines[1 : 1 + whole]]))

    def add(self, answers: Sequence[dict[str, Any]]) -> None:
        """Write the answers of a chunk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(answer) + "\n" for answer in answers)
        self.answers += answers
