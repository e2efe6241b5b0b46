"""Files that a model is taught with: texts, questions, replay, and what is held out of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.reading.read import examine, read
from strop.data.rows import Row, Rows, format_lines
from strop.data.splitting import split
from strop.data.writing import write_records
from strop.models.quantized.calibration_text import DEFAULT_TEXT
from strop.retrieval.chunking import chunks_of
from strop.retrieval.index import Index
from strop.retrieval.storage import searchable
from strop.retrieval.teach.facts import Fact

TEXTS, QUESTIONS, REPLAY = "texts.jsonl", "questions.jsonl", "replay.jsonl"
HELD_OUT, REPLAY_TEST = "held_out.jsonl", "replay_test.jsonl"
REPLAY_MEASURED = 0.1
"""Share of the replay text that is not trained on, by which forgetting is measured."""
_REPLAY_TOKENS = 256
"""Tokens of a piece of a longer text that is replayed."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a model is taught with, as files in a folder."""

    folder: Path
    facts: int
    wordings: int
    held_out: int
    document_tokens: int
    synthetic_tokens: int
    """Of questions with answers, paraphrases and implications, each once."""
    replay_tokens: int
    """Of the replay text, each once; 0 where nothing is replayed."""
    replay_rows: int
    replay_weight: float
    """Share of the replay text that belongs to one pass over the rest."""

    def sources(self, passes: float) -> list[dict[str, Any]]:
        """Return the files to train on as `data` names them, weighed to be gone through once.

        Passes over the documents and questions are weights, so that each takes other rows of the
        replay text: the same few again and again would be learned by heart and guard nothing.
        """
        names = [name for name in (TEXTS, QUESTIONS) if (self.folder / name).is_file()]
        weights: dict[str, float] = dict.fromkeys(names, passes)
        if self.replay_weight:
            weights[REPLAY] = max(passes * self.replay_weight, 1 / self.replay_rows)
        return [{"path": str(self.folder / n), "weight": w} for n, w in weights.items()]


def write_material(
    folder: Path,
    index: Index,
    facts: Sequence[Fact],
    statements: Sequence[str],
    replay: tuple[Rows, Rows],
    share: float,
    tokenizer: Any,
) -> Material:
    """Write the files that a model is taught with.

    Args:
        folder: of the files.
        index: of the documents.
        facts: with their wordings.
        statements: paraphrases and implications.
        replay: general text to train on, and to measure forgetting by.
        share: of the tokens of an epoch that are general text; 0 replays nothing.
        tokenizer: of the model, which counts.
    """

    def tokens(texts: Sequence[str]) -> int:
        return sum(map(len, tokenizer(list(texts))["input_ids"])) if texts else 0

    documents = [searchable(chunk) for chunk in index.chunks]
    texts = [{"text": text} for text in (*documents, *statements)]
    trained_wordings = [
        (n, text, fact.answer) for n, fact in enumerate(facts) for text in fact.wordings
    ]
    outside = [(n, text, fact.answer) for n, fact in enumerate(facts) for text in fact.held_out]
    trained, measured = replay
    files: dict[str, Sequence[Mapping[str, Any]]] = {
        TEXTS: texts,
        QUESTIONS: [_chat(*row) for row in trained_wordings],
        HELD_OUT: [_chat(*row) for row in outside],
        REPLAY: [_plain(row) for row in trained],
        REPLAY_TEST: [_plain(row) for row in measured],
    }
    for name, rows in files.items():
        (folder / name).unlink(missing_ok=True)
        if rows:
            write_records(folder / name, rows, [{}] * len(rows))
    synthetic = tokens([f"{q} {a}" for _, q, a in trained_wordings]) + tokens(statements)
    document_tokens = tokens(documents)
    general = tokens([_text(row) for row in trained]) if share else 0
    taught = document_tokens + synthetic
    weight = share / (1 - share) * taught / general if general else 0.0
    return Material(
        folder,
        len(facts),
        len(trained_wordings),
        len(outside),
        document_tokens,
        synthetic,
        general,
        len(trained),
        weight,
    )


def replay_rows(file: Path | None, seed: int) -> tuple[Rows, Rows, list[str]]:
    """Return general text to train on and to measure forgetting by, and notes about rows left out.

    Longer texts are divided. Without a file it is the packaged text that weights are quantised by.

    Raises:
        DataError: the file cannot be read, or has fewer than two rows.
    """
    examined = examine(file or DEFAULT_TEXT)
    rows: list[Row] = []
    for row in examined.rows:
        texts = [row.text] if row.text is not None else []
        pieces = [p.text for text in texts for p in chunks_of(text, "", _REPLAY_TOKENS)]
        rows += [Row(row.line, text=text) for text in pieces] or [row]
    if len(rows) < 2:
        raise DataError(
            f"{file} has {len(rows)} rows to replay; forgetting is measured on some that are not "
            "trained on, so give more text"
        )
    whole = read([_plain(row) for row in rows])
    trained, measured = split(whole, held_out=REPLAY_MEASURED, seed=seed)
    lines = [fault.line for fault in examined.faults]
    notes = [f"{file}: {format_lines(lines)} cannot be read; left out"] if lines else []
    return trained, measured, notes


def _chat(fact: int, question: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "group_id": fact}


def _plain(row: Row) -> Mapping[str, Any]:
    return {"text": row.text} if row.messages is None else {"messages": row.messages}


def _text(row: Row) -> str:
    if row.messages is None:
        return row.text or ""
    return "\n".join(str(message.get("content") or "") for message in row.messages)
