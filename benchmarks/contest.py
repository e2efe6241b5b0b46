"""Settings that rules choose against published defaults and the best of a grid, on eight small real tasks.

    python scripts/fetch.py smollm2-135m-instruct nyt alpaca dpo c4
    python benchmarks/contest.py [--minutes 60] [--seeds 3] [TASK...]

Every arm is given the same model and the same rows by `strop.train`; arms differ in settings alone, and
what an arm sets not is TRL's default or none. `automatic` sets nothing, and holds some of its rows out; the
others train on all of them. `best` is the arm of the grid with the least loss on the measured rows at seed
0, so it has seen them; the others have not. Cost is the tokens trained on, which take the same time each
whatever else the machine does. Written after each run to `benchmarks/results/cpu/contest.json`; goes on
where it stopped. `maths` needs `strop[environments]`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

from strop.core.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from contest_tasks import PAIRS, TASKS, prepared

MODEL = "smollm2-135m-instruct"
ROWS = Path(__file__).parents[1] / ".cache" / "data" / "contest"
BETA = 0.1
"""Of DPO's loss, its paper's and TRL's default."""
SCORED = {
    "classification": "accuracy", "law": "accuracy", "extraction": "exact_match",
    "maths": "exact_match",
}  # fmt: skip
"""Measure of a task beside the loss, where short answers are right or wrong."""
ADAPTER = {"rank": 16, "alpha": 32, "batch_size": 8, "schedule": "linear", "held_out": 0}
UNSLOTH = ADAPTER | {"alpha": 16, "weight_decay": 0.001}
ARMS: dict[str, dict[str, Any]] = {
    "automatic": {},
    # Its notebooks: r 16, alpha 16, 2e-4, 5 steps of warm-up, and 60 steps or passes over the rows.
    "unsloth 60 steps": UNSLOTH | {"learning_rate": 2e-4, "max_steps": 60, "warmup": 5 / 60},
    "unsloth 3 epochs": UNSLOTH | {"learning_rate": 2e-4, "epochs": 3, "warmup": 0.05},
    # SFTConfig, and ModelConfig's adapter: alpha 32, dropout 0.05, the layers that PEFT takes.
    "trl": ADAPTER
    | {"learning_rate": 2e-5, "epochs": 3, "warmup": 0, "dropout": 0.05}
    | {"target_modules": "q_proj,v_proj"},
    # get_lr of its cookbook, 5e-4 (2000 / 576)^0.781; rank 32 and alpha 32 are its service's.
    "tinker": ADAPTER | {"rank": 32, "learning_rate": 1.3e-3, "epochs": 3, "warmup": 0},
}
FOR_PAIRS = {
    "unsloth 60 steps": UNSLOTH
    | {"rank": 64, "alpha": 64, "learning_rate": 5e-6, "max_steps": 60, "warmup": 0.1},
    "unsloth 3 epochs": UNSLOTH
    | {"rank": 64, "alpha": 64, "learning_rate": 5e-6, "epochs": 3, "warmup": 0.1},
    "trl": ARMS["trl"] | {"learning_rate": 1e-6},
    "tinker": ARMS["tinker"] | {"learning_rate": 1e-5},
}
"""Where their examples of DPO say other than those of imitation."""
EPOCHS = (1, 2, 4)
RATES, PAIR_RATES = (1e-4, 2.5e-4, 6e-4, 1.5e-3), (5e-6, 2e-5, 8e-5, 3e-4)


def arms(task: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each arm by its name, those of the grid last."""
    pairs = task in PAIRS
    grid = {
        f"grid {rate:g} x {epochs}": ADAPTER
        | {"learning_rate": rate, "epochs": epochs, "warmup": 0.06}
        for rate in (PAIR_RATES if pairs else RATES)
        for epochs in EPOCHS
    }
    return ARMS | (FOR_PAIRS if pairs else {}) | grid


def run_once(task: str, arm: str, seed: int) -> dict[str, Any]:
    """Train and measure once in this process."""
    import strop
    from strop.evaluation import evaluate
    from strop.evaluation.plan import Metrics

    train, test = prepared(task, ROWS)
    common: dict[str, Any] = {"model": MODEL, "bits": 16, "seed": seed, "quiet": True}
    if task in PAIRS:
        common["method"] = "dpo"
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        run = strop.train(train, out=Path(scratch) / "run", **common, **arms(task)[arm])
        seconds = time.perf_counter() - started
        measured: dict[str, Any] = {
            "tokens": run.record["measured"]["tokens"],
            "steps": sum("loss" in line for line in run.log),
            "seconds": round(seconds, 1),
        }
        if task in PAIRS:
            measured |= pair_measures(run, test, Path(scratch))
        else:
            names = [SCORED[task]] if task in SCORED else []
            result = evaluate(run, test, metrics=Metrics(names=names))
            measured["loss"] = result.loss.value
            if names:
                measured["score"] = result.metrics[names[0]].value
        if arm == "automatic":
            chosen = run.record["settings"]
            names_chosen = ("learning_rate", "epochs", "batch_size", "rank", "alpha", "warmup")
            measured["settings"] = {name: chosen[name] for name in names_chosen}
    return measured


def pair_measures(run: Any, test: Path, scratch: Path) -> dict[str, float]:
    """Return DPO's loss on pairs, and the share of them whose chosen answer gained more.

        -log sigmoid(beta ((log p(chosen) - log q(chosen)) - (log p(rejected) - log q(rejected))))

    with p of the tuned model and q of the one it started from, each answer's tokens summed.
    """
    import torch

    from strop.data import read
    from strop.evaluation.outcomes import scores_of

    model, tokenizer = run.load()
    pairs = [json.loads(line) for line in test.read_text(encoding="utf-8").splitlines()]
    gains = []
    for side in ("chosen", "rejected"):
        file = scratch / f"{side}.jsonl"
        answers = ({"prompt": pair["prompt"], "completion": pair[side]} for pair in pairs)
        file.write_text("".join(f"{json.dumps(row)}\n" for row in answers), encoding="utf-8")
        rows = read(file).rows
        tuned = torch.stack([scores.sum() for scores in scores_of(model, tokenizer, rows)])
        with model.disable_adapter():
            start = torch.stack([scores.sum() for scores in scores_of(model, tokenizer, rows)])
        gains.append(tuned - start)
    margin = BETA * (gains[0] - gains[1])
    loss = -torch.nn.functional.logsigmoid(margin).mean()
    return {"loss": float(loss), "score": float((margin > 0).double().mean())}


def best_of_grid(runs: dict[str, Any], task: str) -> str | None:
    """Return the arm of the grid with the least loss at seed 0; None while one is missing."""
    grid = [arm for arm in arms(task) if arm.startswith("grid")]
    if any(f"{task}, {arm}, 0" not in runs for arm in grid):
        return None
    return min(grid, key=lambda arm: float(runs[f"{task}, {arm}, 0"]["loss"]))


def verdict(runs: dict[str, Any], task: str) -> dict[str, Any] | None:
    """Return how `automatic` did on a task beside each other arm; None while runs are missing.

    Measures are means over an arm's seeds; beside another arm, over the seeds that both have.
    """
    best = best_of_grid(runs, task)
    if best is None or any(f"{task}, {arm}, 0" not in runs for arm in ARMS):
        return None

    def mean(what: str, arm: str, *paired: str) -> float:
        seeds = [s for s in range(100) if all(f"{task}, {a}, {s}" in runs for a in (arm, *paired))]
        return statistics.fmean(runs[f"{task}, {arm}, {seed}"][what] for seed in seeds)

    def ratio(what: str, arm: str) -> float:
        return mean(what, "automatic", arm) / mean(what, arm, "automatic")

    rows: dict[str, Any] = {}
    for name, arm in {**{arm: arm for arm in ARMS}, "best": best}.items():
        measures = [
            what for what in ("loss", "score", "tokens") if what in runs[f"{task}, {arm}, 0"]
        ]
        seeds = sum(key.startswith(f"{task}, {arm}, ") for key in runs)
        rows[name] = {what: mean(what, arm) for what in measures} | {"seeds": seeds}
    return {
        "arms": rows,
        "best": best,
        "loss_over_best": ratio("loss", best),
        "cost_over_best": ratio("tokens", best),
        "near_best": ratio("loss", best) <= 1.01,
        "ahead_of": [arm for arm in ARMS if arm != "automatic" and ratio("loss", arm) < 1],
    }


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on each task that has one, and their counts."""
    tasks = {task: of_task for task in TASKS if (of_task := verdict(runs, task))}
    return {
        "tasks": tasks,
        "near_best": sum(t["near_best"] for t in tasks.values()),
        "within_1.6_cost": sum(t["cost_over_best"] <= 1.6 for t in tasks.values()),
        "ahead_of": {
            arm: sum(arm in t["ahead_of"] for t in tasks.values())
            for arm in ARMS
            if arm != "automatic"
        },
    }


def wanted_run(runs: dict[str, Any], tasks: list[str], seeds: int) -> str | None:
    """Return the next run that is missing: every arm at seed 0, then the compared ones at others.

    Of these `automatic` and the best of the grid come first, as a percent is asked of them.
    """
    for task in tasks:
        for arm in reversed(arms(task)):
            if f"{task}, {arm}, 0" not in runs:
                return f"{task}, {arm}, 0"
    compared = ["automatic", "best", *(arm for arm in reversed(ARMS) if arm != "automatic")]
    for arm in compared:
        for seed in range(1, seeds):
            for task in tasks:
                name = f"{task}, {best_of_grid(runs, task) if arm == 'best' else arm}, {seed}"
                if name not in runs:
                    return name
    return None


def main() -> int:
    """Run what is missing, write after each run, print what matters."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no run after so many")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "contest.json")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        task, arm, seed = options.run.split(", ")
        print(json.dumps(run_once(task, arm, int(seed))))
        return 0
    if unknown := [task for task in options.tasks if task not in TASKS]:
        parser.error(f"{', '.join(unknown)} not known; choose from {', '.join(TASKS)}")
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else {}
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        name = wanted_run(runs, options.tasks or list(TASKS), options.seeds)
        if name is None:
            break
        command = [sys.executable, __file__, "--run", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {runs[name]}", flush=True)
        facts = {"name": "contest", "model": MODEL, **summary(runs), "runs": runs}
        write_json(options.out, facts | circumstances())
    print(json.dumps({k: v for k, v in summary(runs).items() if k != "tasks"}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
