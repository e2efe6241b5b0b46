"""How well relevance tells questions that an index answers from others, in indexes of 20 to 2,300 chunks.

Run as `python benchmarks/relevance.py [--embedder all-minilm-l6-v2]`; writes
benchmarks/results/cpu/relevance.json. Indexes of some articles of SQuAD are asked about their passages
and about other articles; that of all articles twice, the second time without the chunks of the article
asked about. The handbook of `benchmarks/handbook.py` is asked its 120 questions and others. `shown` is
the share of questions to which `strop ask` would show a chunk. `fitted` are the logistics that fit the
articles, each size and side counted alike, beside the `shipped` ones; the handbook is left out of them.
"""

import argparse
import dataclasses
import math
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from compare import RESULTS, circumstances
from handbook import DOCUMENTS, write_handbook
from numpy.typing import NDArray
from retrieval import SHOWN, squad, write_rows

from strop.core.files import write_json
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Hit, Index
from strop.retrieval.raft.questions import question_answers
from strop.retrieval.relevance import (
    MOST_CHUNKS,
    THRESHOLD,
    WITH_MEANING,
    WORDS_ALONE,
    coverages,
    relevances,
)

INDEXES = {1: 30, 2: 12, 5: 6, 20: 2, 48: 1}
"""Articles of an index, and how many such indexes are asked."""
ASKED = 60
"""Questions of each side to an index."""
ALL = 400
"""To that of all articles."""
HANDBOOK = "handbook"


class Asked(NamedTuple):
    """A question with what an index has for it."""

    group: str
    inside: bool
    """Whether the index answers it."""
    shown: bool
    features: NDArray[np.float64]
    """[hits, 4]: 1, coverage, ln of the chunks, cosine."""


def main() -> None:
    """Ask all indexes by words and by meaning."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    embedder = parser.parse_args().embedder
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, model, shipped in (
            ("words", "none", WORDS_ALONE), ("meaning", embedder, WITH_MEANING),
        ):  # fmt: skip
            asked = [*of_articles(Path(scratch), model), *of_handbook(Path(scratch), model)]
            columns = [0, 1, 2] if model == "none" else [0, 1, 2, 3]
            table[name] = {
                "shown": shares(asked),
                "shipped": [getattr(shipped, field.name) for field in dataclasses.fields(shipped)],
                "fitted": fitted(asked, columns).tolist(),
            }
            print(name, table[name], flush=True)
    write_json(RESULTS / "relevance.json", table | circumstances())


def of_articles(work: Path, model: str) -> Iterator[Asked]:
    """Yield questions to indexes of some articles."""
    passages, questions = squad()
    titles = sorted({title for title, _ in passages})
    chance = random.Random(0)
    for count, indexes in INDEXES.items():
        for number in range(indexes):
            chosen = set(chance.sample(titles, count))
            rows = [{"title": title, "text": text} for title, text in passages if title in chosen]
            index = opened(work / f"{model}-{count}-{number}", rows, model)
            inside = [q for q, right in questions if passages[right][0] in chosen]
            outside = [q for q, right in questions if passages[right][0] not in chosen]
            group = f"{count} articles"
            if outside:
                for question in chance.sample(inside, min(ASKED, len(inside))):
                    yield asked(group, True, index, question, index.search(question, SHOWN))
                for question in chance.sample(outside, ASKED):
                    yield asked(group, False, index, question, index.search(question, SHOWN))
                continue
            for question, right in chance.sample(questions, ALL):
                hits = index.search(question, 100)
                others = [hit for hit in hits if hit.title != passages[right][0]]
                yield asked(group, True, index, question, hits[:SHOWN])
                yield asked(group, False, index, question, others[:SHOWN])


def of_handbook(work: Path, model: str) -> Iterator[Asked]:
    """Yield questions to a handbook of 24 chunks, and as many of SQuAD."""
    folder = work / f"{model}-{HANDBOOK}"
    write_handbook(folder)
    build_index(folder / DOCUMENTS, folder / "index", Indexing(embedder=model, chunk_tokens=64))
    index = Index(folder / "index")
    own, _ = question_answers(folder / "test.jsonl")
    for row in own:
        yield asked(HANDBOOK, True, index, row.question, index.search(row.question, SHOWN))
    for question, _ in random.Random(0).sample(squad()[1], len(own)):
        yield asked(HANDBOOK, False, index, question, index.search(question, SHOWN))


def opened(folder: Path, rows: list[dict[str, str]], model: str) -> Index:
    """Return an index of rows."""
    folder.mkdir()
    write_rows(folder / "docs", rows)
    build_index(folder / "docs", folder / "index", Indexing(embedder=model))
    return Index(folder / "index")


def asked(group: str, inside: bool, index: Index, question: str, hits: Sequence[Hit]) -> Asked:
    """Return a question with its features."""
    size = math.log(min(len(index), MOST_CHUNKS))
    features = [
        (1.0, share, size, hit.dense or 0.0)
        for hit, share in zip(hits, coverages(index, question, hits), strict=True)
    ]
    best = max(relevances(index, question, hits), default=0.0)
    return Asked(group, inside, best >= THRESHOLD, np.array(features).reshape(-1, 4))


def shares(asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    """Return the share of questions of each group and side to which something is shown."""
    groups = dict.fromkeys(one.group for one in asked)
    sides = {"inside": True, "outside": False}
    return {
        group: {
            side: float(np.mean([a.shown for a in asked if a.group == group and a.inside is value]))
            for side, value in sides.items()
        }
        for group in groups
    }


def fitted(asked: Sequence[Asked], columns: list[int]) -> NDArray[np.float64]:
    """Return the logistic of the best hit of each question; which one that is follows from it."""
    rows = [one for one in asked if one.group != HANDBOOK and len(one.features)]
    counts = Counter((one.group, one.inside) for one in rows)
    y = np.array([float(one.inside) for one in rows])
    weights = np.array([100 / counts[one.group, one.inside] for one in rows])
    logistic = np.array([-5.0, 9.0, 0.0, 0.0])[columns]
    for _ in range(8):
        best = [max(one.features[:, columns], key=lambda row: row @ logistic) for one in rows]
        x = np.array(best)
        for _ in range(50):  # Newton's method
            p = 1 / (1 + np.exp(-x @ logistic))
            hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(len(columns))
            logistic = logistic + np.linalg.solve(hessian, x.T @ (weights * (y - p)))
    return logistic


if __name__ == "__main__":
    main()
