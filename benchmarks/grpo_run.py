"""A whole run of GRPO on a task of reasoning-gym: whether its rewards rise, and how fast beside TRL.

Run as `python benchmarks/grpo_run.py [--environment gcd] [--steps 120] [--plain-steps 4]`: the task is
learned by `strop train --environment`, then a few steps of the same run are taken without acceleration,
which is TRL's own trainer, each in a fresh process. Writes benchmarks/results/cpu/grpo_run.json. The
first step of each is left out of its time. `--probe NAME ...` shows what answers to tasks earn at
first instead, of which a task with different rewards in a group can be learned.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances, in_a_process

from strop.core.files import write_json

T_95 = 1.96
"""Standard errors on each side of a mean of dozens of steps."""
SHOWN = ("reward", "reward_std", "equal_groups", "answer_length", "kl")


def trained(options: argparse.Namespace, *, accelerate: bool) -> dict[str, Any]:
    """Take the steps and return the rewards and seconds of each, and the peak of this process."""
    import torch

    import strop

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        run = strop.train(
            model=options.model,
            out=Path(folder) / "run",
            environment=options.environment,
            environment_rows=options.rows,
            method="grpo",
            max_steps=options.steps if accelerate else options.plain_steps,
            batch_size=options.batch_size,
            num_generations=options.generations,
            max_completion_length=options.length,
            learning_rate=options.learning_rate,
            schedule="constant",
            probe=False,
            seed=options.seed,
            accelerate=accelerate,
            quiet=True,
        )
        log = [line for line in run.log if "loss" in line]
        measured, planned = run.record["measured"], run.record["planned"]
    seconds = [line["seconds"] for line in log]
    return {
        **{name: [line[name] for line in log if name in line] for name in SHOWN},
        "seconds": [b - a for a, b in itertools.pairwise(seconds)],
        "peak": measured["peak_memory"]["main"],
        "planned_peak": None if planned is None else planned["peak"],
    }


def risen(rewards: list[float], steps: int) -> dict[str, Any]:
    """Return the mean reward of the first and the last steps, and the 95 % interval of the difference."""
    first, last = rewards[:steps], rewards[-steps:]
    error = sum(statistics.variance(part) / len(part) for part in (first, last)) ** 0.5
    difference = statistics.mean(last) - statistics.mean(first)
    return {
        "steps": steps,
        "first": statistics.mean(first),
        "last": statistics.mean(last),
        "difference": difference,
        "interval": [difference - T_95 * error, difference + T_95 * error],
    }


def probed(options: argparse.Namespace, environment: str) -> dict[str, float]:
    """Return the rewards of one step on a task, which changes nothing before they are drawn."""
    options.environment, options.steps = environment, 1
    run = trained(options, accelerate=True)
    return {name: run[name][0] for name in SHOWN if run[name]}


def main() -> None:
    """Measure what the command line names and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--environment", default="gcd")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--plain-steps", type=int, default=4)
    parser.add_argument("--compared", type=int, default=30, help="steps at the start and the end")
    parser.add_argument("--batch-size", type=int, default=32, help="answers of a step")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--probe", nargs="+", help="names of tasks")
    parser.add_argument("--worker", choices=("strop", "trl"), help="measure this here")
    parser.add_argument("--out", type=Path, default=RESULTS / "grpo_run.json")
    options = parser.parse_args()
    if options.probe:
        for name in options.probe:
            print(name, json.dumps(probed(options, name)), flush=True)
        return
    if options.worker:
        print(json.dumps(trained(options, accelerate=options.worker == "strop")))
        return
    same = [
        word
        for name in ("environment", "rows", "steps", "plain_steps", "batch_size", "generations", "length",
                     "learning_rate", "seed", "model")
        for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]  # fmt: skip
    runs = {}
    for who in ("strop", "trl"):
        runs[who] = in_a_process(Path(__file__).name, "--worker", who, *same)
        print(who, runs[who], flush=True)
    an_hour = {who: 3600 / statistics.median(run["seconds"]) for who, run in runs.items()}
    result = {
        "name": "grpo_run",
        "settings": dict(zip(same[::2], same[1::2], strict=True)),
        "reward": risen(runs["strop"]["reward"], min(options.compared, options.steps // 2)),
        "steps_an_hour": an_hour,
        "times_as_fast": an_hour["strop"] / an_hour["trl"],
        "minutes": sum(runs["strop"]["seconds"]) / 60,
        "peaks": {who: run["peak"] for who, run in runs.items()},
        "runs": runs,
        **circumstances(),
    }
    write_json(options.out, result)
    print({k: result[k] for k in ("reward", "steps_an_hour", "times_as_fast", "peaks", "minutes")})


if __name__ == "__main__":
    sys.exit(main())
