"""Measure how much slower strop is without compiled C++, interleaved, a fresh process each.

Run as `python benchmarks/native.py [--rounds 3]`: training steps in float32 and bfloat16, on weights of
16 and 4 bits, and generated answers. Writes benchmarks/results/cpu/native.json, and the ratios that
`strop doctor` says to src/strop/core/native/without.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from compare import RESULTS, circumstances

from strop.core.files import write_json
from strop.core.native.prebuilt import WITHOUT

CASES = (
    "training in float32",
    "training in bfloat16",
    "training on 4 bits in float32",
    "answers in 16 bits",
    "answers in 4 bits",
)
TEXT = "The gardener walked along the wall and looked at every tree that the storm had bent. " * 6


def main() -> None:
    """Measure every case with and without compiled code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--worker")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps({"seconds": measured(options.model, options.worker)}))
        return
    cases: dict[str, Any] = {}
    for case in CASES:
        runs: dict[str, list[float]] = {"1": [], "0": []}
        for _ in range(options.rounds):
            for native, seconds in runs.items():
                done = subprocess.run(
                    [sys.executable, __file__, "--worker", case, "--model", options.model],
                    env={**os.environ, "STROP_NATIVE": native},  # noqa: TID251
                    capture_output=True,
                    text=True,
                    check=True,
                )
                seconds.append(json.loads(done.stdout.splitlines()[-1])["seconds"])
        compiled, plain = (statistics.median(of) for of in runs.values())
        cases[case] = {"compiled": compiled, "plain": plain, "ratio": plain / compiled}
        print(case, cases[case], flush=True)
    facts = circumstances()
    write_json(RESULTS / "native.json", {"model": options.model, "cases": cases, **facts})
    ratios = {case: round(of["ratio"], 1) for case, of in cases.items()}
    write_json(
        WITHOUT, {"cpu": facts["machine"]["cpu"], "commit": facts["commit"], "times": ratios}
    )


def measured(name: str, case: str) -> float:
    """Return the seconds of two training steps, or of eight answers, after a warm-up."""
    import torch

    import strop
    from strop.models.sampling import Sampling, sample

    bits = 4 if "4 bits" in case else 16
    dtype = torch.bfloat16 if "bfloat16" in case else torch.float32
    model, tokenizer = strop.load(name, bits=bits, dtype=dtype)
    if case.startswith("answers"):
        settings = Sampling(max_new_tokens=12, min_new_tokens=12)
        sample(model, tokenizer, ["warm"], Sampling(max_new_tokens=2))
        start = time.perf_counter()
        sample(model, tokenizer, [TEXT] * 8, settings)
        return round(time.perf_counter() - start, 3)
    return training(model, tokenizer, dtype)


def training(model: Any, tokenizer: Any, dtype: Any) -> float:
    """Return the seconds of two steps of 8 rows by TRL's trainer, accelerated."""
    import tempfile

    import datasets
    import peft
    import torch
    import transformers
    from trl import SFTConfig, SFTTrainer

    import strop

    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    rows = [
        {"prompt": TEXT[: 60 * (1 + i % 6)], "completion": TEXT[: 80 * (1 + i % 4)]}
        for i in range(8)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=8,
            max_steps=3,
            learning_rate=1e-4,
            bf16=dtype == torch.bfloat16,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model,
            config,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=peft.LoraConfig(r=16, target_modules="all-linear"),
            callbacks=[Clock()],
        )
        strop.accelerate(trainer)
        trainer.train()
    return round(ends[-1] - ends[0], 3)


if __name__ == "__main__":
    main()
