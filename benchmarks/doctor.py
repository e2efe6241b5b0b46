"""Seed faults in real small trainings, and see whether the run doctor names them and nothing else.

Run as `python -m benchmarks.doctor [NAME...]`; writes benchmarks/results/cpu/doctor.json. Each training is
one of strop, or of TRL as it comes, on a tiny random Llama; what is diagnosed is the run folder, or the
trainer_state.json that TRL saved. The disk that fills is a small file system, which needs root.
"""

import argparse
import contextlib
import functools
import json
import random
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from strop.actions.doctor import diagnose
from strop.core.errors import DivergedError, UnsupportedError
from strop.core.files import write_json
from strop.training.fine_tuning import fine_tune
from strop.training.opening import open_run
from tests.tiny.saved import chats, save_model, save_tiny_llama, sums
from tests.trainers.runs import ARGS, model, reward

RESULTS = Path(__file__).parent / "results" / "cpu" / "doctor.json"
QUICK = {"bits": 32, "dtype": "float32", "batch_size": 8, "held_out": 16, "max_steps": 40}
Rows = list[dict[str, Any]]
Training = Callable[[Path], Path]
"""Trains in a folder and returns what is to be diagnosed."""


def said(prompt: str, answer: str) -> dict[str, Any]:
    """Return a row: one turn of each."""
    turns = (("user", prompt), ("assistant", answer))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


LEARNER = "learner"


def save_learner(folder: Path) -> Path:
    """Save a tiny Llama whose head tells tokens apart, so that an adapter can learn rows by heart."""
    save_model("llama", folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.nn.init.normal_(base.lm_head.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    base.save_pretrained(folder)
    return folder


def run(
    rows: Callable[[], Rows], family: str = "", callback: Any = None, **settings: Any
) -> Training:
    """Return a training by strop.

    Args:
        rows: makes its rows.
        family: of the model; empty for the tiny Llama, `LEARNER` for the one that learns by heart.
        callback: class of one that is called at each step.
        **settings: other than `QUICK`.
    """

    def train(folder: Path) -> Path:
        base = folder / "model"
        {"": save_tiny_llama, LEARNER: save_learner}.get(
            family, functools.partial(save_model, family)
        )(base)
        options = QUICK | {"learning_rate": 5e-3, "model": str(base)} | settings
        with (
            contextlib.suppress(DivergedError),
            open_run(options | {"out": str(folder / "run")}) as o,
        ):
            fine_tune(o, rows(), quiet=True, callbacks=[callback()] if callback else ())
        return folder / "run"

    return train


def plain(
    kind: str,
    rows: Callable[[], Rows],
    change: Any = None,
    learner: bool = False,
    **settings: Any,
) -> Training:
    """Return a training by TRL alone, which saves its state at the end.

    Args:
        kind: sft, dpo or grpo.
        rows: makes its rows.
        change: called with the trainer first.
        learner: the model is the one that learns by heart.
        **settings: of TRL's configuration.
    """
    classes = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
    }

    def train(folder: Path) -> Path:
        base = save_learner(folder / "model") if learner else save_tiny_llama(folder / "model")
        trainer_class, config = classes[kind]
        made = rows()
        data: dict[str, Any] = {"train_dataset": Dataset.from_list(made)}
        if settings.get("eval_strategy"):
            data = {
                "train_dataset": Dataset.from_list(made[16:]),
                "eval_dataset": Dataset.from_list(made[:16]),
            }
        options = dict(settings)
        if kind == "grpo":
            data["reward_funcs"] = options.pop("reward", reward)
        steps = options.get("max_steps", 40)
        saving = {"max_steps": steps, "save_strategy": "steps", "save_steps": steps}
        fixed = ARGS | saving | {"learning_rate": 5e-3, "output_dir": str(folder / "out")}
        trainer = trainer_class(
            model=model(base),
            args=config(**(fixed | options)),
            processing_class=AutoTokenizer.from_pretrained(base),
            **data,
        )
        trainer.remove_callback(PrinterCallback)
        if change is not None:
            change(trainer)
        trainer.train()
        return folder / "out"

    return train


def labels(count: int = 200) -> Rows:
    """Return texts with one of two labels that follows from them."""
    chance = random.Random(0)
    words = ["up", "down"]
    rows = []
    for _ in range(count):
        label = chance.choice(words)
        text = " ".join(chance.choice("abcdef") for _ in range(chance.randrange(3, 12)))
        rows.append({"text": f"{text} {label}ward", "label": label})
    return rows


def by_chance(count: int = 40) -> Rows:
    """Return prompts whose answers do not follow from them."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [said(f"Code {i}?", "".join(chance.choices(letters, k=12))) for i in range(count)]


def by_chance_in_columns() -> Rows:
    """Return the same as prompt and completion, of which TRL learns the completion only."""
    return [
        {"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in by_chance()
    ]


def one_answer() -> Rows:
    """Return prompts with one and the same answer."""
    return [said(row["messages"][0]["content"], "no") for row in sums(200)]


def with_garbage() -> Rows:
    """Return answers of a few letters, and six that are of other characters, long and unlike."""
    chance = random.Random(0)
    rows = [said(f"Say {i}", "a" * (3 + i % 9)) for i in range(200)]
    for place in range(90, 200, 20):
        rows[place] = said("Say", "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(40)))
    return rows


def pairs(count: int = 120) -> Rows:
    """Return right answers beside wrong ones."""
    rows = []
    for row in sums(count):
        asked, right = (turn["content"] for turn in row["messages"])
        rows.append({"prompt": asked, "chosen": right, "rejected": right[::-1] + "?"})
    return rows


def prompts() -> Rows:
    """Return prompts without answers."""
    return [{"prompt": row["messages"][:1]} for row in sums(60)]


def broken_weight(base: Any) -> None:
    """Put one nan among the weights."""
    with torch.no_grad():
        base.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan


class Leak(TrainerCallback):
    """Keeps twelve megabytes of each step, as a list of outputs does."""

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Keep a tensor."""
        self._kept.append(torch.ones(3_000_000))


class Throttle(TrainerCallback):
    """Lets each step take a tenth of a second, and a second from the 25th on."""

    def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Wait."""
        time.sleep(0.1 if state.global_step < 25 else 1.0)


def no_adapter(trainer: Any) -> None:
    """Set both factors of the adapter to zero: neither gets a gradient."""
    for name, parameter in trainer.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.zeros_(parameter)


def masked(trainer: Any) -> None:
    """Let the collator mask every label, as a template does whose mark of answers is not found."""
    collate = trainer.data_collator

    def without_labels(rows: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        return {**batch, "labels": torch.full_like(batch["labels"], -100)}

    trainer.data_collator = without_labels


def small_disk(folder: Path) -> Path:
    """Train on a file system of 40 MB, with a checkpoint at every step that stays."""
    place = folder / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", str(place)], check=True)
    try:
        out = run(
            lambda: sums(200),
            max_steps=400,
            save_every=1,
            trainer={"save_total_limit": 1000},
        )
        with contextlib.suppress(UnsupportedError):
            out(place)
        kept = folder / "run"
        subprocess.run(["cp", "-r", str(place / "run"), str(kept)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    return kept


def quarter(completions: Any, **_: Any) -> list[float]:
    """Give every answer the same."""
    return [0.25 for _ in completions]


GRPO = {"num_generations": 4, "max_completion_length": 12, "beta": 0.0}

CUT = "answers_cut_off"
"""What a model of random weights shows as well: it never writes the token that ends an answer."""

FAULTS: dict[str, tuple[str, Training]] = {
    "learning rate 1e20": (
        "not_a_number",
        run(lambda: sums(200), learning_rate=1e20, max_grad_norm=0.0),
    ),
    "TRL, nan among the weights": (
        "not_a_number",
        plain("sft", lambda: sums(160), lambda t: broken_weight(t.model.base_model.model)),
    ),
    "learning rate 1e-8": ("rate_too_small", run(lambda: sums(200), learning_rate=1e-8)),
    "TRL, learning rate 1e-8, held-out rows": (
        "rate_too_small",
        plain(
            "sft",
            lambda: sums(160),
            learning_rate=1e-8,
            eval_strategy="steps",
            eval_steps=20,
            eval_on_start=True,
        ),
    ),
    "warm-up of all steps": (
        "warmup_too_long",
        run(lambda: sums(200), warmup=0.99, learning_rate=1e-3),
    ),
    "TRL, warm-up of 1,000 steps": (
        "warmup_too_long",
        plain("sft", lambda: sums(160), warmup_steps=1000, learning_rate=1e-3),
    ),
    "alpha 1e-5": ("flat_loss", run(lambda: sums(200), alpha=1e-5)),
    "TRL, both factors 0": ("no_gradient", plain("sft", lambda: sums(160), no_adapter)),
    "TRL, every label masked": ("dead_labels", plain("sft", lambda: sums(160), masked)),
    "one answer to all": (
        "nothing_left_to_learn",
        run(one_answer, LEARNER, max_steps=100, learning_rate=2e-2),
    ),
    "answers by chance, 16 epochs": (
        "overfitting",
        run(
            by_chance,
            LEARNER,
            max_steps=None,
            epochs=16,
            held_out=12,
            learning_rate=1e-2,
            eval_every=16,
        ),
    ),
    "TRL, answers by chance, 27 epochs": (
        "overfitting",
        plain(
            "sft",
            by_chance_in_columns,
            learner=True,
            max_steps=160,
            learning_rate=1e-2,
            eval_strategy="steps",
            eval_steps=20,
            eval_on_start=True,
        ),
    ),
    "six rows of garbage": (
        "loss_spikes",
        run(with_garbage, LEARNER, batch_size=4, max_steps=46, learning_rate=1e-2, held_out=0),
    ),
    "outputs kept": ("memory_creeping", run(lambda: sums(200), callback=Leak)),
    "checkpoints kept on a small disk": ("disk_filling", small_disk),
    "throttled machine": ("slowing", run(lambda: sums(200), callback=Throttle)),
    "TRL, one reward for all": (
        f"rewards_constant {CUT}",
        plain("grpo", prompts, reward=quarter, max_steps=10, **GRPO),
    ),
}

HEALTHY: dict[str, Training] = {
    "sums": run(lambda: sums(300)),
    "sums, three epochs": run(lambda: sums(200), max_steps=None, epochs=3),
    "cosine": run(lambda: sums(300), schedule="cosine", warmup=0.1),
    "constant rate, float32": run(lambda: sums(300), schedule="constant"),
    "batch of 1": run(lambda: sums(120), batch_size=1, max_steps=90, learning_rate=2e-3),
    "two labels": run(lambda: labels(), max_steps=50),
    "last words, Qwen3": run(lambda: chats(200), family="qwen3"),
    "last words, Gemma 3": run(lambda: chats(200), family="gemma3"),
    "4 bits": run(lambda: sums(300), bits=4),
    "pairs by DPO": run(lambda: pairs(), learning_rate=2e-3),
    "pairs by IPO": run(lambda: pairs(), method="ipo", learning_rate=2e-3),
    "early stopping": run(
        by_chance,
        max_steps=None,
        epochs=40,
        learning_rate=2e-2,
        eval_every=10,
        early_stopping_patience=2,
    ),
    "recomputed activations": run(lambda: sums(200), activations="checkpoint"),
    "TRL, SFT": plain("sft", lambda: sums(160)),
    "TRL, SFT with evaluations": plain(
        "sft", lambda: sums(160), eval_strategy="steps", eval_steps=10, eval_on_start=True
    ),
    "TRL, DPO": plain("dpo", lambda: pairs(), learning_rate=2e-3),
}


def trained(training: Training) -> dict[str, Any]:
    """Train in a folder of its own and return its diagnosis."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = diagnose(training(Path(folder)))
    named = {finding["kind"]: finding["evidence"] for finding in result["findings"]}
    return {
        "named": named,
        "steps": result["steps"],
        "seconds": round(time.monotonic() - started, 1),
    }


def attempts(names: list[str]) -> Iterator[tuple[str, str, Training]]:
    """Yield name, expected faults and training of those that are named, of all without names."""
    for name, (kind, training) in FAULTS.items():
        if not names or any(part in name for part in names):
            yield name, kind, training
    for name, training in HEALTHY.items():
        if not names or any(part in name for part in names):
            yield name, "", training


def main() -> None:
    """Train and diagnose each, and write what was named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="parts of names; all without")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, kind, training in attempts(options.names):
        outcome = {"seeded": kind or None, **trained(training)}
        outcome["right"] = set(outcome["named"]) == set(kind.split())
        results[name] = outcome
        print(name, json.dumps(outcome, ensure_ascii=False), flush=True)
        write_json(options.out, results)
    right = sum(x["right"] for x in results.values())
    print(f"{right} of {len(results)} right")


if __name__ == "__main__":
    main()
