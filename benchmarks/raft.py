"""Retrieval and training together: base, tuned and retrieval-aware models on the Constitution of India.

Run as `python benchmarks/raft.py PART... --work FOLDER [--model smollm2-135m-instruct]`, the parts `plain`
and `raft` (trainings, which go on where they were stopped), then `compare`; writes
benchmarks/results/cpu/raft.json. Questions ask for the title of an article or for the article of a title;
those about 60 articles are not trained on by any model. `python scripts/fetch.py constitution` fetches it.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from compare import HERE, RESULTS, circumstances
from handbook import write_rows

from strop.actions.documents import compare, raft
from strop.actions.train import train
from strop.core.files import read_json, write_json
from strop.retrieval.building import Indexing, build_index
from strop.runs.run import Run

CORPUS = HERE.parent / ".cache" / "data" / "constitution.json"
OUT = RESULTS / "raft.json"
TRAINED, TESTED, WORDS = 80, 60, 60
"""Articles whose questions are trained on and tested on, and words of an article's text that are taken."""
PARTS = ("plain", "raft", "compare")


def main() -> None:
    """Do the named parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--work", type=Path, required=True, help="folder of runs")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--limit", type=int, default=60, help="questions of the comparison")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.work)
    for part in options.parts:
        started = time.perf_counter()
        of_part = compared(options) if part == "compare" else trained(part, options)
        of_part |= {"seconds": round(time.perf_counter() - started, 1)} | circumstances()
        results = read_json(options.out) if options.out.is_file() else {}
        results.setdefault(options.model, {})[part] = of_part
        write_json(options.out, results)
        print(part, of_part["seconds"], flush=True)


def prepare(work: Path) -> None:
    """Write the articles, their index, and the questions to train on and to test on."""
    if (work / "rows.jsonl").is_file():
        return
    docs = work / "docs"
    docs.mkdir(exist_ok=True)
    articles = [a for a in json.loads(CORPUS.read_text()) if a["article"] != "0"]
    texts = [text_of(article) for article in articles]
    write_rows(docs / "articles.jsonl", [{"text": text} for text in texts])
    build_index(docs, work / "index", Indexing())
    titles = [article["title"].strip() for article in articles]
    usable = [
        i for i, title in enumerate(titles) if titles.count(title) == 1 and len(title.split()) > 2
    ]
    drawn = random.Random(0).sample(usable, TRAINED + TESTED)
    for name, numbers in (("train", drawn[:TRAINED]), ("test", drawn[TRAINED:])):
        rows = [row for i in numbers for row in questions(articles[i], texts[i])]
        write_rows(work / f"{name}.jsonl", rows)
    plain = [
        {"prompt": row["question"], "completion": row["answer"]}
        for row in map(json.loads, (work / "train.jsonl").read_text().splitlines())
    ]
    write_rows(work / "plain.jsonl", plain)
    raft(work / "train.jsonl", work / "index", work / "rows.jsonl")


def text_of(article: dict[str, str]) -> str:
    """Return the number, the title and the beginning of an article."""
    words = article["description"].split()
    return f"Article {article['article']}: {article['title'].strip()}. {' '.join(words[:WORDS])}"


def questions(article: dict[str, str], text: str) -> list[dict[str, str]]:
    """Return both questions about an article."""
    number, title = f"Article {article['article']}", article["title"].strip()
    return [
        {
            "question": f"What is {number} of the Constitution of India about?",
            "answer": title,
            "context": text,
        },
        {
            "question": f"Which article of the Constitution of India is about “{title}”?",
            "answer": number,
            "context": text,
        },
    ]


def trained(part: str, options: Any) -> dict[str, Any]:
    """Train on questions alone, or on questions with documents; return its losses and time."""
    run = Run(run_folder(options, part))
    if not (Run.is_at(run.path) and run.finished):
        data = options.work / ("plain.jsonl" if part == "plain" else "rows.jsonl")
        # the same number of passes over the same questions
        settings = {
            "model": options.model,
            "data": str(data),
            "out": str(run.path),
            "epochs": options.epochs,
            "bits": 16,
            "dtype": "bfloat16",
            "held_out": 8,
            "probe": False,
        }
        train(
            settings,
            resume=run.path if Run.is_at(run.path) and run.began else None,
        )
    return {"finished": run.finished, "measured": run.record.get("measured", {})}


def run_folder(options: Any, part: str) -> Path:
    """Return the folder of a run."""
    folder: Path = options.work / f"{part}-{Path(options.model).name}"
    return folder


def compared(options: Any) -> dict[str, Any]:
    """Return the measures of all arms."""
    return compare(
        str(run_folder(options, "plain")),
        options.work / "index",
        options.work / "test.jsonl",
        raft=str(run_folder(options, "raft")),
        picture=options.work / "compare.svg",
        limit=options.limit,
        max_new_tokens=48,
    )


if __name__ == "__main__":
    sys.exit(main())
