"""Recall of the index on SQuAD, and time to index and to search 100,000 chunks.

Run as `python benchmarks/retrieval.py [recall] [size] [peers] [--chunks 100000] [--work FOLDER] [--peers
PYTHON]`; writes benchmarks/results/cpu/retrieval.json, each named part anew. `recall`: 1,000 questions
over the 2,067 passages of SQuAD's development set, by words, by meaning, and fused; the passages are rows
with a title and a text. `size`: chunks of about 120 words put together from the sentences of these
passages, indexed and searched in one process; bm25s alone is given the same texts, tokenised by itself.
`peers`: PYTHON is an interpreter with sentence-transformers and faiss-cpu, which embeds the same passages.
`weights`: the weight of meaning in fusion, chosen anew on one half of the questions and compared with the
shipped one on the other. `file`: one text file of 100 MB, to its end.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, RESULTS, circumstances

from strop.core.files import read_json, write_json
from strop.planning.machine import peak_resident
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index, fuse
from strop.retrieval.relevance import THRESHOLD, relevances

SQUAD = HERE.parent / ".cache" / "data" / "squad.json"
MODEL = "all-minilm-l6-v2"
QUESTIONS, K, WORDS_OF_CHUNK, SEARCHES = 1000, 5, 120, 200
SHOWN = 4
"""Documents that `strop ask` shows."""
OUT = RESULTS / "retrieval.json"


def main() -> None:
    """Measure the named parts, both by default."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", default=["recall", "size"])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="folder that keeps the indexes")
    parser.add_argument("--peers", help="an interpreter with sentence-transformers and faiss-cpu")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        if "recall" in options.parts:
            results["recall"] = recall(work) | circumstances()
        if "size" in options.parts:
            results["size"] = size(work, options.chunks) | circumstances()
        if "weights" in options.parts:
            results["weights"] = weights(work) | circumstances()
        if "file" in options.parts:
            results["file"] = one_file(work) | circumstances()
    if "peers" in options.parts:
        words = [options.peers, str(HERE / "retrieval_peer.py"), str(SQUAD)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        results["peers"] = json.loads(done.stdout.splitlines()[-1]) | circumstances()
    write_json(OUT, (read_json(OUT) if OUT.is_file() else {}) | results)


def squad() -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Return all passages with their titles, and questions with the number of their passage."""
    passages: list[tuple[str, str]] = []
    questions: list[tuple[str, int]] = []
    for article in json.loads(SQUAD.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            questions += [(qa["question"], len(passages)) for qa in paragraph["qas"]]
            passages.append((article["title"].replace("_", " "), paragraph["context"]))
    return passages, random.Random(0).sample(questions, QUESTIONS)


def recall(work: Path) -> dict[str, Any]:
    """Return how often the right passage is among the first five, by each ranking and fused."""
    passages, questions = squad()
    docs = work / "docs"
    if not docs.exists():
        write_rows(docs, [{"title": title, "text": text} for title, text in passages])
    table: dict[str, Any] = {}
    for folder, name in (("sentence", MODEL), ("static", f"static:{MODEL}")):
        summary = build_index(docs, work / folder, Indexing(embedder=name))
        index = Index(Path(summary["out"]))
        ranks = [ranked(index, question) for question, _ in questions]
        table[name] = {
            "chunks": summary["chunks"],
            **{
                way: share([rank[way] for rank in ranks], questions)
                for way in ("words", "meaning", "fused")
            },
        }
        print(name, table[name], flush=True)
    index = Index(work / "sentence")
    relevance = {
        "meaning": separation(index, passages, questions),
        "words": separation(Index(index.folder, dense=False), passages, questions),
    }
    table["bm25s"] = bm25s_recall(passages, questions)
    counts = {"questions": len(questions), "passages": len(passages), "k": K}
    return {**counts, "recall": table, "relevance": relevance}


def separation(
    index: Index, passages: list[tuple[str, str]], questions: list[tuple[str, int]]
) -> dict[str, float]:
    """Return how well relevance tells questions with their article in the index from those without.

    Each question is searched twice; the second time chunks of its article do not count.
    """
    with_article, without = [], []
    for question, right in questions:
        hits = index.search(question, 100)
        probabilities = relevances(index, question, hits)
        titles = [passages[int(hit.source.rsplit(":", 1)[1]) - 1][0] for hit in hits]
        others = [
            p for p, title in zip(probabilities, titles, strict=True) if title != passages[right][0]
        ]
        with_article.append(max(probabilities[:SHOWN], default=0.0))
        without.append(max(others[:SHOWN], default=0.0))
    first, second = np.array(with_article), np.array(without)
    return {
        "ranked_right": float(np.mean(first[:, None] > second[None])),
        "shown_with_article": float(np.mean(first >= THRESHOLD)),
        "shown_without_article": float(np.mean(second >= THRESHOLD)),
    }


FUSION_WEIGHTS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def weights(work: Path) -> dict[str, Any]:
    """Return recall and separation on half of the questions, by weights chosen on the other half."""
    _, questions = squad()
    half = len(questions) // 2
    table: dict[str, Any] = {"questions": half}
    for folder in ("sentence", "static"):
        index = Index(work / folder)
        assert index.embedder is not None
        ranks = [index.rankings(question) for question, _ in questions]

        def recall_by(weight: float, part: slice) -> float:
            first = [
                list(fuse([np.array(r["words"]), np.array(r["meaning"])], [1.0, weight]))[:50]
                for r in ranks[part]  # noqa: B023 (called inside the loop)
            ]
            return share([rows(index, numbers) for numbers in first], questions[part])  # noqa: B023

        chosen = max(FUSION_WEIGHTS, key=lambda weight: recall_by(weight, slice(0, half)))
        shipped = index.embedder.trust
        rest = slice(half, None)
        table[folder] = {
            "shipped": shipped,
            "chosen": chosen,
            "recall_shipped": recall_by(shipped, rest),
            "recall_chosen": recall_by(chosen, rest),
        }
        print(folder, table[folder], flush=True)
    return table


def one_file(work: Path) -> dict[str, Any]:
    """Return seconds and peak memory of indexing one text file of 100 MB by words, to its last line."""
    passages, _ = squad()
    folder = work / "one"
    folder.mkdir(exist_ok=True)
    with (folder / "large.txt").open("w") as file:
        size, number = 0, 0
        while size < 100_000_000:
            size += file.write(f"{passages[number % len(passages)][1]} Mark {number}.\n\n")
            number += 1
    start = time.perf_counter()
    summary = build_index(folder, work / "one.index", Indexing(embedder="none"))
    seconds = time.perf_counter() - start
    (hit,) = Index(work / "one.index").search(f"Mark {number - 1}", 1)
    return {
        "bytes": (folder / "large.txt").stat().st_size,
        "chunks": summary["chunks"],
        "seconds": seconds,
        "peak_bytes": peak_resident(),
        "last_found": f"Mark {number - 1}." in hit.text,
    }


def rows(index: Index, numbers: list[int]) -> list[int]:
    """Return the rows of the first chunks, each once."""
    of_chunks = [int(index.chunks[i]["source"].rsplit(":", 1)[1]) - 1 for i in numbers]
    return list(dict.fromkeys(of_chunks))[:K]


def ranked(index: Index, question: str) -> dict[str, list[int]]:
    """Return the rows of the first five hits by each ranking and fused."""
    ways: dict[str, list[int]] = {}
    for way, rankings in index.rankings(question).items():
        ways[way] = rows(index, rankings[:50])
    return ways


def share(ranks: list[list[int]], questions: list[tuple[str, int]]) -> float:
    """Return the share of questions whose passage is among the first."""
    return float(
        np.mean([right in rank for rank, (_, right) in zip(ranks, questions, strict=True)])
    )


def bm25s_recall(
    passages: list[tuple[str, str]], questions: list[tuple[str, int]]
) -> dict[str, float]:
    """Return what bm25s by itself ranks: its own tokens, English stop words left out."""
    import bm25s

    index = bm25s.BM25()
    texts = [f"{title}\n{text}" for title, text in passages]
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    asked_for = bm25s.tokenize([question for question, _ in questions], show_progress=False)
    numbers, _ = index.retrieve(asked_for, k=K, show_progress=False)
    return {"words": share(numbers.tolist(), questions)}


def size(work: Path, count: int) -> dict[str, Any]:
    """Return the seconds to index many chunks, and the milliseconds of a search."""
    passages, questions = squad()
    docs = work / "many"
    texts = chunks(passages, count)
    write_rows(docs, [{"text": text} for text in texts])
    out = work / "many.index"
    start = time.perf_counter()
    summary = build_index(docs, out, Indexing())
    results: dict[str, Any] = {
        "chunks": summary["chunks"],
        "embedder": summary["embedder"],
        "index_seconds": time.perf_counter() - start,
        "index_bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    }
    index = Index(out)
    results |= searched(lambda question: index.search(question, K), questions)
    with (docs / "rows.jsonl").open("a") as file:
        file.write(json.dumps({"text": "One more row."}) + "\n")
    start = time.perf_counter()
    build_index(docs, out, Indexing())
    results["update_seconds"] = time.perf_counter() - start
    print(results, flush=True)
    start = time.perf_counter()
    import bm25s

    alone = bm25s.BM25()
    alone.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    results["bm25s_index_seconds"] = time.perf_counter() - start

    def search(question: str) -> None:
        alone.retrieve(bm25s.tokenize([question], show_progress=False), k=K, show_progress=False)

    results |= {f"bm25s_{k}": v for k, v in searched(search, questions).items()}
    print(results, flush=True)
    return results


def searched(search: Any, questions: list[tuple[str, int]]) -> dict[str, float]:
    """Return the median and the 95th percentile of a search, in milliseconds."""
    times = []
    for question, _ in questions[:SEARCHES]:
        start = time.perf_counter()
        search(question)
        times.append(1000 * (time.perf_counter() - start))
    return {"search_ms": float(np.median(times)), "search_ms_95": float(np.quantile(times, 0.95))}


def chunks(passages: list[tuple[str, str]], count: int) -> list[str]:
    """Return texts of about 120 words each, of sentences drawn from the passages."""
    sentences = [s for _, text in passages for s in re.split(r"(?<=[.!?]) ", text)]
    rng = random.Random(0)
    texts = []
    for _ in range(count):
        words: list[str] = []
        while len(words) < WORDS_OF_CHUNK:
            words += rng.choice(sentences).split()
        texts.append(" ".join(words[: WORDS_OF_CHUNK + 20]))
    return texts


def write_rows(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as one JSONL file in a folder."""
    folder.mkdir()
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
