"""Time `predict` of labels over the matrix products that it needs, and of generated short answers.

Run as `python benchmarks/predict.py [--rows 5000] [--rounds 3] [--threads 2]`; writes
benchmarks/results/cpu/predict.json. `labels` chooses among three for each newspaper sentence, in float32;
`floor` is the products of the same rows: what rows of 64 have in common once, every other token once, the
head once for each place where labels part. `answers` are 300 short generated ones by the whole command.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare import HERE, RESULTS, circumstances, in_a_process

from strop.core.files import write_json
from strop.core.tokens import IGNORE_INDEX

LABELS = ("negative", "neutral", "positive")
DATA = HERE.parent / ".cache" / "data"
MODEL = "smollm2-135m-instruct"


def main() -> None:
    """Measure, interleaved, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", choices=("labels", "floor", "answers"))
    parser.add_argument("--out", type=Path, default=RESULTS / "predict.json")
    options = parser.parse_args()
    if options.worker:
        workers = {"labels": labels, "floor": floor, "answers": by_command}
        print(json.dumps(workers[options.worker](options)))
        return
    ways = ("labels", "floor", "answers")
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            sizes = ["--rows", str(options.rows), "--threads", str(options.threads)]
            sizes += ["--answers", str(options.answers)]
            runs[way].append(in_a_process(Path(__file__).name, "--worker", way, *sizes))
            print(way, runs[way][-1], flush=True)
    result: dict[str, Any] = {"rows": options.rows, "answers": options.answers, "runs": runs}
    for by in ("seconds", "processor_seconds"):
        middles = {way: statistics.median(r[by] for r in of) for way, of in runs.items()}
        result[by] = middles | {"labels_over_floor": middles["labels"] / middles["floor"]}
    write_json(options.out, result | {"threads": options.threads} | circumstances())


def first_rows(count: int) -> list[dict[str, str]]:
    """Return the first rows of the newspaper sentences."""
    lines = [
        line
        for name in ("nyt.train.jsonl", "nyt.test.jsonl")
        for line in (DATA / name).read_text().splitlines()
    ]
    return [json.loads(line) for line in lines[:count]]


def labels(options: argparse.Namespace) -> dict[str, float]:
    """Return what answering by labels takes, the model being loaded."""
    import torch

    import strop
    from strop.evaluation.answers.predict import Answering, predict

    torch.set_num_threads(options.threads)
    model, tokenizer = strop.load(MODEL, bits=16)
    model.float()
    rows = first_rows(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        predict((model, tokenizer), rows[:8], Path(folder) / "few.jsonl", Answering(labels=LABELS))
        watch = _Watch()
        predict((model, tokenizer), rows, Path(folder) / "all.jsonl", Answering(labels=LABELS))
        return watch.read()


def floor(options: argparse.Namespace) -> dict[str, float]:
    """Return what the matrix products of `labels` take."""
    import torch
    from floor import Products, Shape, Work
    from floor import runs as shared_runs

    from strop.evaluation.answers.predict import CHUNK

    torch.set_num_threads(options.threads)
    sequences, folder = tokens_of(first_rows(options.rows))
    works = []
    for first in range(0, len(sequences), CHUNK):
        part = sequences[first : first + CHUNK]
        inputs = sorted((prompt + answer)[:-1] for prompt, answers in part for answer in answers)
        runs = shared_runs(inputs)
        places = sum(
            len({tuple(answer[:k]) for answer in answers for k in range(len(answer))})
            for _, answers in part
        )
        works.append(Work(sum(length for length, _ in runs), places, runs))
    products = Products(Shape.of(folder), works)
    with torch.no_grad():
        products.forward_only(works[0])
        watch = _Watch()
        for work in works:
            products.forward_only(work)
    return watch.read() | {"tokens": sum(work.tokens for work in works)}


def tokens_of(rows: list[dict[str, str]]) -> tuple[list[tuple[list[int], list[list[int]]]], Path]:
    """Return the prompt of each row with the tokens of each label, and the model's folder."""
    import strop
    from strop.data import read
    from strop.data.encoding.encode import encoded
    from strop.evaluation.labels import with_answer

    model, tokenizer = strop.load(MODEL, bits=16)
    questions = [with_answer(row, label) for row in read(rows).rows for label in LABELS]
    examples: list[Any] = list(encoded(questions, tokenizer))
    sequences = []
    for first in range(0, len(examples), len(LABELS)):
        of_row = examples[first : first + len(LABELS)]
        start = next(i for i, label in enumerate(of_row[0].labels) if label != IGNORE_INDEX)
        sequences.append((of_row[0].ids[:start], [e.ids[start:] for e in of_row]))
    return sequences, Path(model.config._name_or_path)


def by_command(options: argparse.Namespace) -> dict[str, float]:
    """Return what 300 generated answers of at most 32 tokens take, from start to end of the command."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "questions.jsonl"
        questions = [{"prompt": row["prompt"]} for row in first_rows(options.answers)]
        data.write_text("".join(json.dumps(row) + "\n" for row in questions))
        command = [str(Path(sys.executable).with_name("strop")), "predict", MODEL, str(data)]
        command += ["--out", str(Path(folder) / "answers.jsonl"), "--max-tokens", "32"]
        watch = _Watch()
        subprocess.run(command, check=True, capture_output=True)
        return watch.read()


class _Watch:
    """Seconds by the clock and of the processor, of this process and its children."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), self._spent()

    @staticmethod
    def _spent() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def read(self) -> dict[str, float]:
        """Return the seconds since it began."""
        return {
            "seconds": time.perf_counter() - self._clock,
            "processor_seconds": self._spent() - self._processor,
        }


if __name__ == "__main__":
    main()
