"""What a writer makes of documents: questions in several wordings, paraphrases, implications."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError, UnsupportedError
from strop.core.files import writing
from strop.core.progress import Progress, silent
from strop.metrics.text import words
from strop.retrieval.chunking import tokens_in
from strop.retrieval.index import Index
from strop.retrieval.raft.writer import (
    CHUNKS_AT_ONCE,
    SPEAKS_OF_TEXT,
    Pair,
    Writer,
    Writing,
    about,
    confirmed,
    evenly,
    pairs_about,
    question_fault,
)
from strop.retrieval.teach.facts import Fact

_REWORD = (
    "Here is a question about it: {question}\nAsk the same in other words, with every name in it. "
    "Write the new question and nothing else."
)
_PARAPHRASE = (
    "Write this text anew in your own words. Keep every fact, name and number. Write nothing else."
)
_IMPLICATION = (
    "Write one sentence that follows from this text and does not stand in it, and nothing else. It "
    "names what it is about."
)
_FOLLOWS = "Is this true according to the text? Answer yes or no: {statement}"
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_SHORTEST = 4
"""Words of a statement."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What is written about each chunk.

    Attributes:
        questions: that are tried.
        wordings: further ones of each question.
        paraphrases: of the chunk.
        implications: sentences that follow from it.
    """

    questions: int = 4
    wordings: int = 3
    paraphrases: int = 2
    implications: int = 2


def write_about(
    index: Index,
    open_writer: Callable[[], Writer],
    how: Composition,
    file: Path,
    *,
    chunks: int | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Return what was written about each chunk of an index, appending to a file what it lacks.

    Each line has `facts` (`wordings` and `answer`), `statements`, and `dropped`, by reason.

    Args:
        index: of the documents.
        open_writer: called if something is missing.
        how: see `Composition`.
        file: JSONL that keeps what was written: a stopped command goes on after its last line.
        chunks: most chunks, evenly through the index; None takes all.
        progress: called with the number of chunks that are done.

    Raises:
        DataError: nothing of what the writer wrote can be used.
        UnsupportedError: the writer cannot be reached, or the file cannot be written.
    """
    lines = {line["key"]: line for line in _read(file)}
    numbers = evenly(len(index), chunks)
    keys = {number: _key(index.chunks[number]["text"], how) for number in numbers}
    missing = [number for number in numbers if keys[number] not in lines]
    writer = open_writer() if missing else None
    for start in range(0, len(missing), CHUNKS_AT_ONCE):
        progress("writing about documents", len(numbers) - len(missing) + start, len(numbers))
        part = missing[start : start + CHUNKS_AT_ONCE]
        assert writer is not None
        try:
            about_part = _written(index, writer, part, how)
        except UnsupportedError as e:
            more = f"; what it wrote is in {file}, and the same command goes on" if lines else ""
            raise UnsupportedError(f"{e}{more}") from e
        fresh = {keys[n]: {"key": keys[n], **line} for n, line in about_part.items()}
        if not any(line["facts"] for line in (*lines.values(), *fresh.values())):
            dropped = Counter[str]()
            for line in fresh.values():
                dropped.update(line["dropped"])
            raise DataError(
                f"no question of the writer about the first {len(part):,} chunks can be used "
                f"({'; '.join(f'{why}: {n:,}' for why, n in dropped.most_common())}); take a larger "
                "one, or give wordings of your own with --questions"
            )
        _append(file, list(fresh.values()))
        lines |= fresh
    return [lines[keys[number]] for number in numbers]


def facts_in(lines: Sequence[dict[str, Any]]) -> list[Fact]:
    """Return the facts that were written."""
    return [
        Fact(fact["answer"], tuple(fact["wordings"])) for line in lines for fact in line["facts"]
    ]


def _written(
    index: Index, writer: Writer, numbers: Sequence[int], how: Composition
) -> dict[int, dict[str, Any]]:
    """Return facts, statements and what was dropped of some chunks; the last with the first one."""
    dropped: Counter[str] = Counter()
    pairs = pairs_about(index, writer, numbers, Writing(each=how.questions), dropped)
    others = _reworded(index, writer, pairs, how.wordings, dropped)
    lines: dict[int, dict[str, Any]] = {
        number: {"source": index.chunks[number]["source"], "facts": [], "statements": []}
        for number in numbers
    }
    for place, (number, question, answer) in enumerate(pairs):
        wordings = [question, *others.get(place, ())]
        lines[number]["facts"].append({"wordings": wordings, "answer": answer})
    for number, statement in _statements(index, writer, numbers, how, dropped):
        lines[number]["statements"].append(statement)
    return {n: {**line, "dropped": dropped if n == numbers[0] else {}} for n, line in lines.items()}


def _reworded(
    index: Index, writer: Writer, pairs: Sequence[Pair], count: int, dropped: Counter[str]
) -> dict[int, list[str]]:
    """Return further wordings of each question, by its place, that pass the filters of questions."""
    places = [place for place in range(len(pairs)) for _ in range(count)]
    texts = [index.chunks[pairs[place][0]]["text"] for place in places]
    chats = [
        about(text, _REWORD.format(question=pairs[place][1]))
        for text, place in zip(texts, places, strict=True)
    ]
    replies = writer.write(chats, most=64, temperature=0.8) if chats else []
    usable: list[tuple[int, Pair]] = []
    for place, text, reply in zip(places, texts, replies, strict=True):
        number, question, answer = pairs[place]
        wording = next((line.strip() for line in (reply or "").splitlines() if "?" in line), "")
        wording = wording[: wording.rfind("?") + 1].strip('*"“” ')
        earlier = [question, *(pair[1] for at, pair in usable if at == place)]
        why = question_fault(text, (wording, answer) if wording else None, earlier)
        if why is None:
            usable.append((place, (number, wording, answer)))
        else:
            dropped[f"wording: {why}"] += 1
    # the same question may be worded for two answers: pairs are told apart by all three parts
    same = set(confirmed(index, writer, [pair for _, pair in usable], dropped))
    wordings: dict[int, list[str]] = {}
    for place, pair in usable:
        if pair in same:
            wordings.setdefault(place, []).append(pair[1])
    return wordings


def _statements(
    index: Index, writer: Writer, numbers: Sequence[int], how: Composition, dropped: Counter[str]
) -> list[tuple[int, str]]:
    """Return paraphrases and implications that the writer, asked again, finds to be true."""
    written: list[tuple[int, str]] = []
    for order, count, shorter in (
        (_PARAPHRASE, how.paraphrases, False),
        (_IMPLICATION, how.implications, True),
    ):
        places = [number for number in numbers for _ in range(count)]
        texts = [index.chunks[number]["text"] for number in places]
        most = 64 if shorter else 2 * max(map(tokens_in, texts), default=1)
        chats = [about(text, order) for text in texts]
        replies = writer.write(chats, most=most, temperature=0.8) if chats else []
        for number, text, reply in zip(places, texts, replies, strict=True):
            statement = (reply or "").strip()
            if (why := _statement_fault(text, statement, [s for _, s in written])) is None:
                written.append((number, statement))
            else:
                dropped[f"statement: {why}"] += 1
    chats = [
        about(index.chunks[number]["text"], _FOLLOWS.format(statement=statement))
        for number, statement in written
    ]
    verdicts = writer.write(chats, most=8, temperature=0.0) if chats else []
    confirmed_statements = []
    for pair, verdict in zip(written, verdicts, strict=True):
        if words(verdict or "")[:1] == ["yes"]:
            confirmed_statements.append(pair)
        else:
            dropped["statement: not true when looked at again"] += 1
    return confirmed_statements


def _statement_fault(text: str, statement: str, earlier: Sequence[str]) -> str | None:
    """Return why a statement is not used, or None."""
    if len(words(statement)) < _SHORTEST:
        return "no sentence"
    if SPEAKS_OF_TEXT.search(statement):
        return "it speaks of the text"
    if not {*_NUMBER.findall(statement)} <= {*_NUMBER.findall(text)}:
        return "it has a number that the document has not"
    if words(statement) == words(text) or any(words(statement) == words(s) for s in earlier):
        return "it is not new"
    return None


def _key(text: str, how: Composition) -> str:
    return hashlib.sha256(json.dumps([text, asdict(how)]).encode()).hexdigest()[:24]


def _read(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; one that was cut off is left out."""
    if not file.is_file():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("}\n"):
            try:
                lines.append(json.loads(line))
            except ValueError as e:
                raise DataError(
                    f"{file} is damaged ({e}); remove it, and it is written anew"
                ) from e
    return lines


def _append(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        cut = file.is_file() and file.read_bytes()[-1:] not in (b"", b"\n")
        with file.open("a", encoding="utf-8") as out:
            out.write("\n" if cut else "")
            out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
