"""Answers of a teacher in place of those of the data: distillation by sequences (arXiv:1606.07947)."""

import dataclasses
import hashlib
import json
from pathlib import Path

from strop.core.cache import cached_folder
from strop.core.errors import DataError
from strop.core.files import write_json
from strop.core.progress import Progress
from strop.data import Row, Rows
from strop.data.encoding.chat import chat_ids
from strop.data.rows import BrokenRowsError, Fault
from strop.models.sampling import Sampling, sample
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.distillation.teacher import Teacher


def answered_by(
    teacher: Teacher, rows: SplitRows, settings: Settings, progress: Progress
) -> tuple[SplitRows, str]:
    """Return the rows with the teacher's likeliest answer in place of their last, and a sentence.

    Rows whose answer is empty, or does not end within max_completion_length, are left out.

    Args:
        teacher: answers.
        rows: conversations.
        settings: how long answers may be.
        progress: called with the answers that are done.

    Raises:
        DataError: rows that no one can answer, all listed; or no answer ended.
    """
    if faults := [fault for row in rows.both if (fault := _fault(row)) is not None]:
        raise BrokenRowsError(rows.source, faults, len(rows.both))
    answers = _answers(teacher, rows.both, settings, progress)
    ended = [answer is not None for answer in answers]
    if not any(ended):
        raise DataError(
            f"no answer of {teacher.name} has a text that ends within max_completion_length "
            f"{settings.max_completion_length}; raise it, or take another teacher"
        )
    replaced = [
        dataclasses.replace(row, messages=[*_prompt(row), {"role": "assistant", "content": text}])
        for row, text in zip(rows.both, answers, strict=True)
        if text is not None
    ]
    count = sum(ended[: len(rows.train)])
    split = dataclasses.replace(
        rows, train=_as(rows.train, replaced[:count]), held_out=_as(rows.held_out, replaced[count:])
    )
    sentence = (
        f"{teacher.name} has another vocabulary, so that its answers are imitated, not its "
        f"probabilities: {len(replaced):,} in place of those of the data"
    )
    if left := len(ended) - len(replaced):
        sentence += f"; {left:,} more are empty or did not end in time, and are left out"
    return split, sentence


def _as(rows: Rows, replaced: list[Row]) -> Rows:
    return dataclasses.replace(rows, rows=replaced)


def _prompt(row: Row) -> list[dict[str, object]]:
    messages = list(row.messages or ())
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def _fault(row: Row) -> Fault | None:
    if row.messages is None:
        return Fault(
            row.line, "it is a plain text, which a teacher of another vocabulary cannot answer"
        )
    if row.tools or any(message.get("tool_calls") for message in row.messages):
        return Fault(row.line, "it has tools, which drawn answers cannot call", "tools")
    return (
        None if _prompt(row) else Fault(row.line, "it has no prompt before its answer", "no_prompt")
    )


def _answers(
    teacher: Teacher, rows: list[Row], settings: Settings, progress: Progress
) -> list[str | None]:
    """Return the answer to each row from the cache, drawn where it has none; None if it did not end."""
    prompts = [chat_ids(teacher.tokenizer, _prompt(row)) for row in rows]
    wishes = Sampling(max_new_tokens=settings.max_completion_length)
    text = json.dumps(prompts)
    key = {
        "teacher": teacher.identity(),
        "prompts": hashlib.sha256(text.encode()).hexdigest(),
        "settings": dataclasses.asdict(wishes),
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        folder.mkdir()
        drawn = sample(teacher.model, teacher.tokenizer, prompts, wishes, progress=progress)
        texts = [a.text if a.finish_reason == "stop" and a.text.strip() else None for a in drawn]
        write_json(folder / "answers.json", {"answers": texts})

    folder = cached_folder(f"answers-{name}", json.loads(json.dumps(key)), build, shelf="teachers")
    answers: list[str | None] = json.loads((folder / "answers.json").read_text())["answers"]
    return answers
