"""A whole GRPO step, its answers drawn by the model itself, in plain TRL and under `strop.accelerate`.

Run as `python benchmarks/grpo_step.py [--modes ...] [--rounds 1]`: 8 answers of 128 tokens to a prompt of
450, the modes in turn, each in a fresh process; adds to benchmarks/results/cpu/grpo_step.json. The
first step warms up. All modes draw from the same generator, but rounding may let answers part.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances, in_a_process
from modes import MODES, RANK

from strop.core.files import write_json

COMPARED = ("trl-batch", "strop", "trl-batch-bfloat16", "strop-bfloat16")
PROMPT, ANSWERS, LENGTH, STEPS = 450, 8, 128, 3
TEXT = Path("/usr/share/common-licenses/GPL-3")


def measured(mode_name: str, model_name: str) -> dict[str, Any]:
    """Take the steps in a mode; return the seconds of each after the first, those of drawing apart."""
    import datasets
    import peft
    import torch
    import trl
    from trl_trainers import Clock, common_settings, share_of_spaces

    import strop

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    mode, clock, drawing = MODES[mode_name], Clock(), []
    model, tokenizer = strop.load(model_name, bits=16)
    model = model.to(getattr(torch, mode.dtype))
    ids = tokenizer(TEXT.read_text())["input_ids"]
    prompts = [tokenizer.decode(ids[step * 50 : step * 50 + PROMPT]) for step in range(STEPS)]
    workload = {"rows_per_step": ANSWERS, "steps": STEPS}
    with tempfile.TemporaryDirectory() as folder:
        settings = common_settings(workload, mode, folder) | {
            "num_generations": ANSWERS, "max_completion_length": LENGTH, "shuffle_dataset": False,
            "generation_kwargs": {"min_new_tokens": LENGTH}, "gradient_checkpointing": False,
        }  # fmt: skip
        trainer = trl.GRPOTrainer(
            model=model,
            args=trl.GRPOConfig(**settings),
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            reward_funcs=share_of_spaces,
            peft_config=peft.LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[clock],
        )
        if mode.accelerate is not None:
            strop.accelerate(trainer, **mode.accelerate)
        trainer._generate = functools.partial(_timed, trainer._generate, drawing)
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": clock.seconds()[1:],
        "drawing": drawing[1:],
        "lengths": [entry["completions/mean_length"] for entry in history],
        "grad_norm": [entry["grad_norm"] for entry in history],
    }


def _timed(generate: Any, drawing: list[float], *args: Any, **named: Any) -> Any:
    start = time.perf_counter()
    answers = generate(*args, **named)
    drawing.append(time.perf_counter() - start)
    return answers


def summed_up(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the median seconds of each mode's steps, and how many times as fast strop is."""
    medians = {
        mode: {
            of: statistics.median(s for run in each for s in run[of])
            for of in ("seconds", "drawing")
        }
        for mode, each in runs.items()
    }
    pairs = {
        "float32": ("trl-batch", "strop"),
        "bfloat16": ("trl-batch-bfloat16", "strop-bfloat16"),
    }
    ratios = {
        name: medians[trl]["seconds"] / medians[strop]["seconds"]
        for name, (trl, strop) in pairs.items()
        if trl in medians and strop in medians
    }
    return {"medians": medians, "times_as_fast": ratios}


def main() -> None:
    """Measure what the command line names and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--modes", nargs="+", default=COMPARED, choices=COMPARED)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--worker", help="measure this mode here")
    parser.add_argument("--out", type=Path, default=RESULTS / "grpo_step.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(options.worker, options.model)))
        return
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for mode in options.modes:
            run = in_a_process(Path(__file__).name, "--worker", mode, "--model", options.model)
            runs.setdefault(mode, []).append(run)
            print(mode, run, flush=True)
    sizes = {"prompt": PROMPT, "answers": ANSWERS, "tokens": LENGTH, "model": options.model}
    result = {"name": "grpo_step", **sizes, **summed_up(runs), "runs": runs, **circumstances()}
    write_json(options.out, result)
    print(result["medians"], result["times_as_fast"])


if __name__ == "__main__":
    sys.exit(main())
