"""Rows of questions about documents: the right one among those that the retriever confuses with it."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.retrieval.index import Hit, Index
from strop.retrieval.prompts import (
    REFUSAL,
    Shown,
    has_answer,
    parsed,
    prompt_text,
    quoting,
    sentence_with,
)
from strop.retrieval.raft.questions import QuestionAnswer

TOGETHER = 4
"""Questions about one chunk that are asked about the same documents, so that prompts begin alike."""
_DEPTH = 30
"""Hits among which the right chunk and the distractors are."""
Kind = Literal["right", "without", "none", "unanswerable"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """What rows show.

    Attributes:
        distractors: documents beside the right one.
        without: share of rows whose documents do not have the answer.
        none: share of rows without documents, answered from memory.
        absent: what is answered where the documents do not have it: "refuse" says so, "memory"
            gives the answer all the same.
        seed: of shares, order and places.
        progress: called while documents are searched.
    """

    distractors: int = 3
    without: float = 0.15
    none: float = 0.15
    absent: Literal["refuse", "memory"] = "refuse"
    seed: int = 0
    progress: Progress = silent

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: one cannot work.
        """
        faults = []
        if self.distractors < 0:
            faults.append(f"distractors is {self.distractors}; it must be 0 or more")
        for name in ("without", "none"):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.without + self.none > 1:
            faults.append(f"without and none are {self.without + self.none} together, above 1")
        if self.absent not in ("refuse", "memory"):
            faults.append(f"absent is {self.absent!r}; it must be refuse or memory")
        if faults:
            raise ConfigError("; ".join(faults))


@dataclass(slots=True)
class _Searched:
    """A question, its hits, and the chunk that has its answer."""

    pair: QuestionAnswer
    hits: list[Hit]
    right: Hit | None


def raft_rows(
    index: Index, questions: Sequence[QuestionAnswer], mixture: Mixture
) -> Iterator[dict[str, Any]]:
    """Yield a training row for each question: `messages`, `kind`, `question`, `sources`, `right`.

    `kind` is "right" where the right document is shown, "without" where others are, "none" where
    nothing is, "unanswerable" for a question that the data has no answer to. Questions about one
    chunk come together and are asked about the same documents in the same order. An answer that
    stands in its document quotes the sentence, which is checked to be there word for word.

    Args:
        index: of the documents.
        questions: with their answers.
        mixture: see `Mixture`.
    """
    groups: dict[int, list[_Searched]] = defaultdict(list)
    alone: list[list[_Searched]] = []
    for number, pair in enumerate(questions):
        mixture.progress("searching", number, len(questions))
        searched = _searched(index, pair)
        if searched.right is None:
            alone.append([searched])
        else:
            groups[searched.right.chunk].append(searched)
    rng = random.Random(mixture.seed)
    together = [
        group[i : i + TOGETHER]
        for _, group in sorted(groups.items())
        for i in range(0, len(group), TOGETHER)
    ]
    kinds = _kinds(together, mixture, rng)
    for group, kind in zip(together, kinds, strict=True):
        yield from _rows_of_group(group, kind, mixture, rng)
    for group in alone:
        kind = "without" if group[0].pair.answers else "unanswerable"
        yield from _rows_of_group(group, kind, mixture, rng)


def _searched(index: Index, pair: QuestionAnswer) -> _Searched:
    hits = index.search(pair.question, _DEPTH)
    right = next((hit for hit in hits if _answers(hit, pair)), None)
    if right is None and pair.context and pair.answers:  # the retriever missed it
        place = sentence_with(pair.context, pair.answers[0]) or pair.context
        more = index.search(place[:400], _DEPTH)
        right = next((hit for hit in more if _answers(hit, pair)), None)
    return _Searched(pair, hits, right)


def _answers(hit: Hit, pair: QuestionAnswer) -> bool:
    """Return whether a chunk has an answer, and is of the question's passage if that is known."""
    if not has_answer(hit.text, pair.answers):
        return False
    if pair.context is None:
        return True
    chunk, context = _squeezed(hit.text), _squeezed(pair.context)
    return chunk in context or context in chunk


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().split())


def _kinds(groups: list[list[_Searched]], mixture: Mixture, rng: random.Random) -> list[Kind]:
    """Return the kind of each group: at random, with as many rows of each as the shares say."""
    shares: dict[Kind, float] = {
        "right": 1 - mixture.without - mixture.none,
        "without": mixture.without,
        "none": mixture.none,
    }
    kinds: list[Kind] = ["right"] * len(groups)
    rows: Counter[Kind] = Counter()
    for place in rng.sample(range(len(groups)), len(groups)):
        total = rows.total() + len(groups[place])
        kinds[place] = max(shares, key=lambda kind: shares[kind] * total - rows[kind])
        rows[kinds[place]] += len(groups[place])
    return kinds


def _rows_of_group(
    group: list[_Searched], kind: Kind, mixture: Mixture, rng: random.Random
) -> Iterator[dict[str, Any]]:
    documents: list[Hit] = []
    if kind != "none":
        count = mixture.distractors + (kind != "right")
        documents = _distractors(group, count)
        if kind == "right" and group[0].right is not None:
            documents.insert(rng.randint(0, len(documents)), group[0].right)
    shown = [Shown(hit.text, hit.source, hit.title) for hit in documents]
    for searched in group:
        answer, number = _answer(searched, kind, documents, shown, mixture)
        yield {
            "messages": [
                {"role": "user", "content": prompt_text(searched.pair.question, shown)},
                {"role": "assistant", "content": answer},
            ],
            "kind": kind,
            "question": searched.pair.question,
            "sources": [hit.source for hit in documents],
            "right": number,
        }


def _distractors(group: list[_Searched], count: int) -> list[Hit]:
    """Return the best hits of a group's questions, in turn, that have none of their answers."""
    answers = [answer for searched in group for answer in searched.pair.answers]
    taken = {searched.right.chunk for searched in group if searched.right is not None}
    chosen: list[Hit] = []
    for rank in range(_DEPTH):
        for searched in group:
            if len(chosen) == count:
                return chosen
            if rank < len(searched.hits) and (hit := searched.hits[rank]).chunk not in taken:
                taken.add(hit.chunk)
                if not has_answer(hit.text, answers):
                    chosen.append(hit)
    return chosen


def _answer(
    searched: _Searched, kind: Kind, documents: list[Hit], shown: list[Shown], mixture: Mixture
) -> tuple[str, int | None]:
    """Return what is trained on, and the number of the right document."""
    answers = searched.pair.answers
    if kind == "unanswerable" or not answers:
        return REFUSAL, None
    if kind == "none" or (kind == "without" and mixture.absent == "memory"):
        return answers[0], None
    if kind == "without":
        return REFUSAL, None
    assert searched.right is not None
    number = next(n for n, hit in enumerate(documents, 1) if hit.chunk == searched.right.chunk)
    for answer in answers:
        sentence = sentence_with(searched.right.text, answer)
        if sentence is not None:
            text = quoting(answer, sentence, number)
            if all(quote.verbatim for quote in parsed(text, shown).quotes):
                return text, number
    return f"{answers[0]} [{number}]", number
