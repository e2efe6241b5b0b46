"""Training steps of random models on a card: strop beside plain TRL on the same weights and rows.

Run as `python benchmarks/card_steps.py SECONDS`: a line of JSON for each model, format of its weights,
workload and mode, as many as there is time for; with `simulate` in place of the seconds, the peak that
strop expects of each of its own. Without a card tiny models take the same steps on the CPU.
"""

import dataclasses
import gc
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from card_models import MODELS, config
from modes import MODES, RANK
from trl_trainers import Clock, build, common_settings

import strop
from strop.models.meta_model import outline
from strop.planning.memory import simulate
from strop.planning.step import Setup

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tiny.saved import tokenizer

CARD = torch.cuda.is_available()
SIZES = {
    "1B": config("llama", (128256, 2048, 8192, 16, 32, 8), tie_word_embeddings=True),
    "8B": MODELS["Llama-3-8B"],
}
TINY = {"tiny": config("llama", (512, 64, 128, 2, 4, 2), tie_word_embeddings=True)}
COMPARED = (
    "strop-bfloat16", "strop-checkpoint-bfloat16", "trl-batch-bfloat16", "trl-default-bfloat16",
)  # fmt: skip
BITS = (16, 4)
WORDS = 256
"""Token ids that rows are made of; the time of a step does not depend on which."""
STEPS = 3
"""The first is warm-up."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one optimizer step is made of."""

    rows: tuple[int, ...]
    """Tokens of each row, its prompt among them."""
    answers: tuple[int, ...]
    """Of those, how many at the end carry loss."""
    trainer: str = "sft"


def batches(scale: float = 1.0) -> dict[str, Batch]:
    """Return the workloads: chats of very different lengths, a long row, answers of one prompt."""
    chance = random.Random(0)
    lengths = [min(650, max(20, math.exp(chance.gauss(math.log(140), 0.85)))) for _ in range(8)]
    chats = tuple(int(scale * n) for n in lengths)
    row, prompt, answer = (max(4, int(scale * n)) for n in (8192, 1024, 128))
    return {
        "chats": Batch(chats, tuple(n // 3 for n in chats)),
        "long row": Batch((row,), (row - 1,)),
        "GRPO group": Batch((prompt + answer,) * 8, (answer,) * 8, trainer="grpo"),
    }


def workload(batch: Batch) -> dict[str, Any]:
    """Return rows for some steps, as the trainers of the other benchmarks take them."""
    chance = random.Random(1)

    def ids(count: int) -> list[int]:
        return [chance.randrange(8, WORDS) for _ in range(count)]

    rows: list[dict[str, Any]] = []
    for step in range(STEPS):
        prompt = ids(batch.rows[0] - batch.answers[0])
        if batch.trainer == "grpo":
            answers = [ids(count) for count in batch.answers]
            rows += [{"prompt": str(step), "prompt_ids": prompt, "answers": answers}] * 8
            continue
        for length, answer in zip(batch.rows, batch.answers, strict=True):
            row = ids(length)
            labels = [-100] * (length - answer) + row[length - answer :]
            rows.append({"input_ids": row, "labels": labels})
    return {
        "trainer": batch.trainer,
        "rows_per_step": len(batch.rows),
        "steps": STEPS,
        "rows": rows,
    }


def random_model(sizes: dict[str, Any], bits: Any) -> Any:
    """Return a model with an adapter, its numbers random, on the card where there is one."""
    model = outline(sizes, bits=bits, dtype=torch.bfloat16, rank=RANK)
    model.to_empty(device="cuda" if CARD else "cpu")
    torch.manual_seed(0)
    for t in (*model.parameters(), *model.buffers()):
        if t.is_floating_point():
            t.data.uniform_(-0.02, 0.02)
        elif t.dtype == torch.uint8:
            t.data.random_(0, 256)
        else:
            t.data.zero_()
    return model


def measure(model: Any, batch: Batch, mode_name: str) -> dict[str, Any]:
    """Take the steps of a workload in a mode; the model is afterwards as it was."""
    rows, mode, watch = workload(batch), MODES[mode_name], Clock()
    trained = {p: p.detach().clone() for p in model.parameters() if p.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        settings = common_settings(rows, mode, folder) | {"use_cpu": not CARD}
        trainer = build(rows, settings, model=model, processing_class=tokenizer())
        trainer.add_callback(watch)
        if mode.accelerate is not None:
            strop.accelerate(trainer, **mode.accelerate)
        if CARD:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            return {"out_of_memory": True}
        finally:
            if mode.accelerate is not None:
                strop.restore(trainer)
            model.gradient_checkpointing_disable()
            for parameter, before in trained.items():
                parameter.data.copy_(before)
                parameter.grad = None
    return {
        "seconds": watch.seconds()[1:],
        "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak": torch.cuda.max_memory_allocated() if CARD else None,
    }


def cases() -> Iterator[tuple[str, dict[str, Any], int, str, Batch]]:
    """Yield models by name and sizes, bits, and workloads, the most telling first."""
    for bits in BITS:
        for name, sizes in reversed((SIZES if CARD else TINY).items()):
            for kind, batch in batches(1.0 if CARD else 0.1).items():
                yield name, sizes, bits, kind, batch


def steps(seconds: float) -> None:
    """Print what each case takes, until the time is up."""
    end, model, opened = time.perf_counter() + seconds, None, None
    for name, sizes, bits, kind, batch in cases():
        case = {"model": name, "bits": bits, "workload": kind}
        if opened != (name, bits):
            model = None
            gc.collect()
            model, opened = random_model(sizes, bits), (name, bits)
        for mode in COMPARED:
            late = time.perf_counter() > end
            taken = {"left_out": "no time was left"} if late else measure(model, batch, mode)
            gc.collect()
            print(json.dumps(case | {"mode": mode} | taken), flush=True)


def simulated() -> None:
    """Print the peak that strop expects of each of its modes, where the loss is a sum over tokens."""
    asked = [
        ({"model": name, "bits": bits, "workload": kind, "mode": mode}, sizes, batch)
        for name, sizes, bits, kind, batch in cases()
        for mode in COMPARED
        if batch.trainer == "sft" and MODES[mode].accelerate is not None
    ]
    setups = [
        Setup(
            config=sizes, rows=batch.rows, answers=batch.answers, bits=case["bits"],
            dtype="bfloat16", rank=RANK, device="cuda",
            activations=(MODES[case["mode"]].accelerate or {}).get("activations", "keep"),
        )
        for case, sizes, batch in asked
    ]  # fmt: skip
    for (case, *_), step in zip(asked, simulate(*setups), strict=True):
        print(json.dumps(case | {"simulated_peak": step.peak}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "simulate":
        simulated()
    else:
        steps(float(sys.argv[1]))
