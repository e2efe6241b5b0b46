"""Held-out loss after the same training on 16-bit, dynamic 4-bit and plain NF4 weights.

Run as `python benchmarks/qlora_accuracy.py [--tasks …] [--bases …] [--seeds …]`; writes
`benchmarks/results/cpu/qlora_accuracy.json`, where results already on file are kept. The model is
first moved off the 4-bit grid that its file lies on, as in `quantization.py`, and saved in bfloat16.
The dynamic model is calibrated on rows of the task's file that no run trains on or is measured on.
A seed decides the adapter's first weights, the order of the rows and which rows are held out.

Both tasks have answers of many tokens. Where the answer is one word, such as a sentence's tone, the
mean loss over 160 rows is uncertain by a tenth, and half a percent could not be told from chance.
"""

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from compare import RESULTS, circumstances, in_a_process
from quantization import dither

import strop
from strop.core.files import write_json


@dataclasses.dataclass(frozen=True)
class Task:
    """The first rows of a file that are not too long."""

    file: str
    rows: int
    longest: int
    """Characters of a row in JSON."""
    held_out: int
    as_text: bool = False
    """Calls of functions, and what they return, are text: the model's template has no form for them."""


MODEL = "smollm2-135m-instruct"
DATA = Path(__file__).parents[1] / ".cache" / "data"
TASKS = {
    "instructions": Task("alpaca.json", 400, 600, 160),
    "function-calls": Task("glaive.json", 60, 1000, 24, as_text=True),
}
BASES = ("16-bit", "dynamic-1.10", "nf4", "dynamic-1.50", "dynamic-1.10-corrected")
"""`dynamic` with its budget; `corrected` starts its adapter where it makes good for part of the error."""
RANK = 16
SETTINGS: dict[str, Any] = {
    "rank": RANK,
    "alpha": RANK,
    "batch_size": 8,
    "epochs": 2,
    "warmup": 0.06,
    "learning_rate": 3e-4,
}
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantile of Student's t with 1, 2, … degrees of freedom."""


def main() -> None:
    """Train each task on each base with each seed, in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--bases", nargs="+", default=list(BASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--scratch", type=Path, required=True, help="where models and runs lie")
    parser.add_argument("--one", nargs=3, help="train this task on this base with this seed")
    parser.add_argument("--prepare", action="store_true", help="only write the models")
    parser.add_argument("--out", type=Path, default=RESULTS / "qlora_accuracy.json")
    options = parser.parse_args()
    if options.one:
        task, base, seed = options.one
        print(json.dumps(trained(options.scratch, task, base, int(seed))))
        return
    prepare(options.scratch, options.tasks, options.bases)
    if options.prepare:
        return
    losses = json.loads(options.out.read_text())["losses"] if options.out.is_file() else {}
    for seed, task, base in itertools.product(options.seeds, options.tasks, options.bases):
        of = losses.setdefault(task, {}).setdefault(base, {})
        if str(seed) not in of:
            run = in_new_process(options.scratch, task, base, seed)
            of[str(seed)] = run | {"commit": circumstances()["commit"]}
            print(task, base, seed, of[str(seed)], flush=True)
            write_json(options.out, summary(losses))
    for task, by_base in summary(losses)["gaps"].items():
        for base, gap in by_base.items():
            within = " to ".join(f"{end:+.2%}" for end in gap["interval"] or ())
            print(f"{task:14} {base:24} {gap['mean']:+.2%} ({within or 'one seed'})")


def prepare(scratch: Path, tasks: Sequence[str], bases: Sequence[str]) -> None:
    """Write the 16-bit model and what is made of it, where it does not lie there yet."""
    plain = scratch / "16-bit"
    if not plain.exists():
        model, tokenizer = strop.load(MODEL, bits=32)
        with torch.no_grad():
            dither(model)
        model.bfloat16().save_pretrained(plain)
        tokenizer.save_pretrained(plain)
    for task, base in itertools.product(tasks, bases):
        out = stored(scratch, task, base)
        if not out.exists() and base.startswith("dynamic"):
            budget, (_, others) = float(base.split("-")[1]), rows(task)
            strop.quantize(plain, out, budget=budget, adapter_rank=RANK, calibrate=others)
    if not (scratch / "nf4").exists():
        in_a_process("checkpoint.py", "bnb-4bit", str(plain), scratch / "nf4")


def stored(scratch: Path, task: str, base: str) -> Path:
    """Return where the model of a base lies; those of one budget and task share it."""
    dynamic = base.startswith("dynamic")
    return scratch / (f"{base.removesuffix('-corrected')}-{task}" if dynamic else base)


def in_new_process(scratch: Path, task: str, base: str, seed: int) -> dict[str, float]:
    """Run `trained` in a fresh process."""
    command = [sys.executable, __file__, "--scratch", scratch, "--one", task, base, str(seed)]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def trained(scratch: Path, task: str, base: str, seed: int) -> dict[str, float]:
    """Train and return the loss on the rows held out, before and after."""
    start = {"lora_init": "quantization_error"} if base.endswith("-corrected") else {}
    run = strop.train(
        rows(task)[0],
        model=stored(scratch, task, base),
        out=scratch / "runs" / f"{task}-{base}-{seed}",
        bits=16 if base == "16-bit" else 4,
        seed=seed,
        held_out=TASKS[task].held_out,
        quiet=True,
        **SETTINGS,
        **start,
    )
    losses = [line["held_out_loss"] for line in run.log if "held_out_loss" in line]
    return {"before": losses[0], "after": losses[-1]}


def rows(task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a task, and all others of its file."""
    of = TASKS[task]
    examples = json.loads((DATA / of.file).read_text(encoding="utf-8"))
    if of.as_text:
        examples = [conversation(row) for row in examples]
    short = [i for i, row in enumerate(examples) if len(json.dumps(row)) <= of.longest][: of.rows]
    taken = set(short)
    return [examples[i] for i in short], [row for i, row in enumerate(examples) if i not in taken]


def conversation(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of function calls as a chat of plain text."""
    roles = {
        "human": "user",
        "observation": "user",
        "function_call": "assistant",
        "gpt": "assistant",
    }
    turns = [{"role": roles[t["from"]], "content": t["value"]} for t in row["conversations"]]
    return {"messages": [{"role": "system", "content": f"Functions: {row['tools']}"}, *turns]}


def summary(losses: dict[str, Any]) -> dict[str, Any]:
    """Return the losses and, for each task, how far each base is from 16 bits.

    gap = loss / loss of the 16-bit run with the same seed - 1; 95 % interval of its mean over
    seeds by Student's t, None of one seed.
    """
    gaps: dict[str, Any] = {}
    for task, bases in losses.items():
        plain = bases.get("16-bit", {})
        for base, runs in bases.items():
            shared = sorted(set(runs) & set(plain))
            if base == "16-bit" or not shared:
                continue
            each = [runs[s]["after"] / plain[s]["after"] - 1 for s in shared]
            mean, interval = statistics.mean(each), None
            if len(each) > 1:
                error = statistics.stdev(each) / math.sqrt(len(each))
                half = STUDENT[len(each) - 2] * error
                interval = [mean - half, mean + half]
            gap = {"mean": mean, "interval": interval, "seeds": shared}
            gaps.setdefault(task, {})[base] = gap
    return {
        "name": "qlora_accuracy",
        "model": f"{MODEL}, dithered",
        "settings": SETTINGS,
        "tasks": {name: dataclasses.asdict(of) for name, of in TASKS.items()},
        "losses": losses,
        "gaps": gaps,
        **circumstances(),
    }


if __name__ == "__main__":
    main()
