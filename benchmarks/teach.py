"""What a model learns of documents: raw text, `strop teach`, retrieval, each on its own.

Run as `python benchmarks/teach.py ARM... --work FOLDER [--model smollm2-135m-instruct] [--corpus news]`;
writes benchmarks/results/cpu/teach.json or teach_news.json, each arm of each model anew. The documents
are a fictional handbook of 60 facts, or real ones made after the models' training (`clock_news.py`).
Arms: `raw` trains on the text and the replay alone, twice as many passes as `teach`; `teach` trains on all
wordings but two of each fact, `teach-1` and `teach-3` on one and three; `retrieval` asks the base model
with the documents indexed. All are asked the wordings that no arm trains on. An arm that was stopped goes
on where it was.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from clock_news import write_news
from compare import RESULTS, circumstances
from handbook import DOCUMENTS, write_handbook

from strop.actions.documents import teach as teach_action
from strop.actions.train import train
from strop.core.files import read_json, write_json
from strop.core.progress import silent
from strop.models.loading import load_tokenizer
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.comparison import Comparing, compare_retrieval
from strop.retrieval.index import Index
from strop.retrieval.raft.questions import question_answers
from strop.retrieval.teach import course
from strop.runs.run import Run

CORPORA = {
    "handbook": (write_handbook, RESULTS / "teach.json"),
    "news": (write_news, RESULTS / "teach_news.json"),
}
"""Who writes the documents and questions, and where results lie."""
ARMS = ("raw", "teach", "teach-3", "teach-1", "retrieval")
RATE = 1e-3
EPOCHS = 6
PLACES = ("run", "folder", "picture")
"""Of a summary, where things lie on this machine."""
FORMAT: dict[str, Any] = {"bits": 16, "dtype": "bfloat16"}


def main() -> None:
    """Measure the named arms."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("arms", nargs="+", choices=ARMS)
    parser.add_argument("--work", type=Path, required=True, help="folder of runs")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--corpus", choices=CORPORA, default="handbook")
    options = parser.parse_args()
    out = CORPORA[options.corpus][1]
    for arm in options.arms:
        started = time.perf_counter()
        of_arm = retrieved(options) if arm == "retrieval" else trained(arm, options)
        of_arm = {k: v for k, v in of_arm.items() if k not in PLACES}
        of_arm |= {"seconds": round(time.perf_counter() - started, 1)} | circumstances()
        results = read_json(out) if out.is_file() else {}
        results.setdefault(options.model, {})[arm] = of_arm
        write_json(out, results)
        print(
            arm,
            {k: v for k, v in of_arm.items() if k in ("recall", "forgetting", "seconds")},
            flush=True,
        )


def trained(arm: str, options: Any) -> dict[str, Any]:
    """Return what one arm of training learned and forgot."""
    count = int(arm.removeprefix("teach-")) if arm.startswith("teach-") else None
    folder = written(options, arm if count else "whole", count)
    settings: dict[str, Any] = {"model": options.model, "learning_rate": options.rate, **FORMAT}
    out = folder / f"{arm}-{Path(options.model).name}"
    if arm != "raw":
        # each fact is seen equally often, in fewer wordings
        settings["epochs"] = options.epochs * (6 / count if count else 1)
        summary = teach_action(folder / DOCUMENTS, out, settings, questions=folder / "facts.jsonl")
        return dict(summary)
    how = course.Teaching(questions=folder / "facts.jsonl")
    prepared = course.prepare(
        folder / DOCUMENTS, Path(f"{out}.teach"), how, load_tokenizer(options.model), 0, silent
    )
    material = prepared.material
    share = course.REPLAY_SHARE
    passes = 2 * options.epochs
    weight = passes * share / (1 - share) * material.document_tokens / material.replay_tokens
    texts, replay = material.sources(passes)[0], material.sources(passes)[-1] | {"weight": weight}
    settings |= {"data": [texts, replay], "held_out": str(material.folder / "held_out.jsonl")}
    settings = {**course.DEFAULTS, **settings, "epochs": 1, "batch_size": 2, "eval_every": 40}
    settings["out"] = str(out)
    run = Run(out)
    if not (Run.is_at(out) and run.finished):
        train(settings, resume=out if Run.is_at(out) and run.began else None)
    return dataclasses.asdict(material) | {"folder": ""} | course.measured(run, material, silent)


def written(options: Any, name: str, wordings: int | None) -> Path:
    """Return a folder with the documents, and the facts in so many wordings; all where None."""
    folder = Path(options.work / options.corpus / name)
    if not (folder / "facts.jsonl").is_file():
        CORPORA[options.corpus][0](folder, wordings)
    return folder


def retrieved(options: Any) -> dict[str, Any]:
    """Return what the base model answers with the documents indexed, and without."""
    folder = written(options, "whole", None)
    build_index(folder / DOCUMENTS, folder / "index", Indexing(chunk_tokens=64))
    questions, _ = question_answers(folder / "test.jsonl")
    compared = compare_retrieval(
        options.model, Index(folder / "index"), questions, Comparing(limit=60, max_new_tokens=32)
    )
    return {
        "recall": {
            "before": compared["arms"]["base"]["contains"],
            "after": compared["arms"]["base + works"]["contains"],
        },
        "arms": compared["arms"],
        "retrieval": compared["retrieval"],
    }


if __name__ == "__main__":
    sys.exit(main())
