"""Time multiple choice by lm-evaluation-harness, its own `hf` model beside strop's, interleaved.

    python scripts/fetch.py squad
    python benchmarks/multiple_choice.py [--questions 300] [--rounds 3] [--way strop hf-1 hf-8]

Questions are SQuAD's, one of each passage, four choices each: the right answer and three answers to
other questions of the article; passages are joined until a question has about 300 tokens before it.
`hf-N` is the harness's HFLM with batches of N. Each measurement is a process of its own; the results
of both must be equal. Writes benchmarks/results/cpu/multiple_choice.json.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

from strop.core.files import write_json

SQUAD = Path(__file__).resolve().parents[1] / ".cache" / "data" / "squad.json"
CONTEXT = 300
TASK = {
    "task": "passages",
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{context}}\n\nQuestion: {{question}}\nAnswer:",
    "doc_to_target": "label",
    "doc_to_choice": "{{choices}}",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ],
}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--way", nargs="+", default=["strop", "hf-1", "hf-8"])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--worker", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "multiple_choice.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(options.worker, options.way[0], options.model, options.dtype)))
        return
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in options.way}
    with tempfile.TemporaryDirectory() as folder:
        task = write_task(Path(folder), options.questions)
        common = ["--worker", str(task), "--model", options.model, "--dtype", options.dtype]
        for _ in range(options.rounds):
            for way in options.way:
                command = [sys.executable, __file__, "--way", way, *common]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(way, runs[way][-1], flush=True)
    measures = {way: of_way[0]["measures"] for way, of_way in runs.items()}
    seconds = {way: statistics.median(r["seconds"] for r in of) for way, of in runs.items()}
    fastest = min(value for way, value in seconds.items() if way != "strop")
    facts = {
        "model": options.model,
        "dtype": options.dtype,
        "questions": options.questions,
        "rounds": options.rounds,
        "seconds": seconds,
        "peak_rss": {way: max(r["peak_rss"] for r in of) for way, of in runs.items()},
        "ratio": fastest / seconds["strop"],
        "measures": measures,
    }
    write_json(options.out, {**facts, **circumstances("lm_eval")})
    print(json.dumps(facts, indent=1))


def write_task(folder: Path, count: int) -> Path:
    """Write the questions and the harness's file of the task; return the file."""
    rows = folder / "questions.jsonl"
    chosen = list(questions())[:count]
    rows.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    path = folder / "passages.yaml"
    path.write_text(json.dumps({**TASK, "dataset_kwargs": {"data_files": {"test": str(rows)}}}))
    return path


def questions() -> Iterator[dict[str, Any]]:
    """Yield questions of four choices, no two of them on the same passages."""
    rng = random.Random(0)
    for article in json.loads(SQUAD.read_text(encoding="utf-8"))["data"]:
        answers = {qa["answers"][0]["text"] for part in article["paragraphs"] for qa in part["qas"]}
        context: list[str] = []
        for part in article["paragraphs"]:
            context.append(part["context"])
            if sum(map(len, context)) < 4 * CONTEXT:
                continue
            qa = part["qas"][0]
            right = qa["answers"][0]["text"]
            choices = [right, *rng.sample(sorted(answers - {right}), 3)]
            rng.shuffle(choices)
            yield {
                "context": "\n\n".join(context),
                "question": qa["question"],
                "choices": choices,
                "label": choices.index(right),
            }
            context = []


def measured(task: Path, way: str, name: str, dtype: str) -> dict[str, Any]:
    """Return what one way takes, loading left out, and its results."""
    import torch
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    import strop
    from strop.evaluation.harness.loading import Harness
    from strop.evaluation.harness.tasks import compare_on_tasks
    from strop.planning.machine import peak_resident

    model, tokenizer = strop.load(name, dtype=getattr(torch, dtype))
    model = model.to(getattr(torch, dtype))
    start = time.perf_counter()
    if way == "strop":
        harness = Harness(names=[str(task)])
        (plain,) = compare_on_tasks([(name, lambda: (model, tokenizer))], harness, 0).values()
        results = plain["harness"]
    else:
        batch = int(way.removeprefix("hf-"))
        lm = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch)
        loaded = TaskManager(include_defaults=False).load([str(task)])
        results = evaluator.evaluate(lm, loaded, bootstrap_iters=0)["results"]
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "peak_rss": peak_resident(),
        "measures": {k: results["passages"][f"{k},none"] for k in ("acc", "acc_norm")},
    }


if __name__ == "__main__":
    main()
