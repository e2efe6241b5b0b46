"""Short runs of TRL's SFT and DPO trainers, and the loss and gradient norm of every step."""

import copy
import random
import warnings
from dataclasses import dataclass

import torch
import trl
from datasets import Dataset
from transformers import PrinterCallback

import strop

STEPS, ROWS = 20, 8
"""Optimizer steps of a run, and rows of each."""


class _Recording:
    """Adds up each step's loss in the precision in which it was computed; the log holds float32."""

    def training_step(self, *args, **kwargs):
        """Run a micro-batch."""
        loss = super().training_step(*args, **kwargs)
        self.summed = getattr(self, "summed", 0.0) + loss.item()
        return loss

    def log(self, logs, *args, **kwargs):
        """Take down the step that just ended."""
        if "grad_norm" in logs:
            self.curve = [*getattr(self, "curve", []), (self.summed, logs["grad_norm"])]
            self.summed = 0.0
        super().log(logs, *args, **kwargs)


class Sft(_Recording, trl.SFTTrainer):
    """Supervised fine-tuning."""


class Dpo(_Recording, trl.DPOTrainer):
    """Preferences: the loss is no sum of log-probabilities."""


@dataclass(frozen=True)
class Way:
    """One way to compute the same steps."""

    accelerated: bool = True
    """Whether strop computes it; else the trainer is as TRL built it."""
    activations: str = "auto"
    micro_batch_tokens: int | None = None
    exact: bool = False
    """The loss is made of all logits; TRL's own head rounds to float32."""
    rows: int = ROWS
    """Rows of a step."""
    batch: int = ROWS
    """Rows of a micro-batch."""
    packed: bool = False
    """Rows are laid end to end in one row."""
    fuse: str = "auto"
    learning_rate: float = 1e-2
    """What a tiny model from scratch learns with in so few steps; it makes a trained one diverge."""


def loss_of_logits(outputs, labels, num_items_in_batch=None):
    """Return the loss that SFT is defined by, from all logits in the model's own precision."""
    log_probs = outputs.logits[:, :-1].log_softmax(-1)
    wanted = labels[:, 1:]
    scored = log_probs.gather(-1, wanted.clamp(min=0)[..., None])[..., 0] * (wanted != -100)
    return -scored.sum() / num_items_in_batch


def rows(count, *, shared=0, longest=60, seed=0):
    """Return rows of random length that count up or down, their second part labelled.

    Half of them begin with the same `shared` tokens, a quarter with half of those.
    """
    rng = random.Random(seed)

    def tokens(n):
        start, stride = rng.randint(0, 90), rng.choice((-2, -1, 1, 2, 3))
        return [3 + (start + stride * i) % 90 for i in range(n)]

    prefix, found = tokens(shared), []
    for i in range(count):
        own = tokens(rng.randint(4, longest))
        start = prefix[: (shared, shared, shared // 2, 0)[i % 4]]
        asked = len(start) + len(own) // 3
        ids = start + own
        found.append({"input_ids": ids, "labels": [-100] * asked + ids[asked:]})
    return Dataset.from_list(found)


def sentences(tokenizer, count):
    """Return sentences that count on, their second half labelled, as SFT rows."""
    names = ("apples", "pears", "stones", "birds")
    found = []
    for i in range(count):
        text = ", ".join(f"{n} {names[i % 4]}" for n in range(i, i + 2 + i % 3))
        ids = tokenizer(text)["input_ids"]
        found.append({"input_ids": ids, "labels": [-100] * 3 + ids[3:]})
    return Dataset.from_list(found)


def pairs(count, *, shared=0, seed=0):
    """Return prompts that begin alike, each with two answers, as text of one letter a token."""
    rng = random.Random(seed)

    def text(low, high):
        start, stride = rng.randint(0, 19), rng.choice((1, 2, 3))
        return "".join(chr(97 + (start + stride * i) % 20) for i in range(rng.randint(low, high)))

    prefix = text(shared, shared)
    made = ((prefix + text(2, 20), text(2, 30), text(2, 30)) for _ in range(count))
    return Dataset.from_list(
        [{"prompt": asked, "chosen": good, "rejected": bad} for asked, good, bad in made]
    )


COMMON = {
    "max_steps": STEPS,
    "gradient_checkpointing": False,
    "train_sampling_strategy": "sequential",
    "max_length": None,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def run(model, tokenizer, data, out, way):
    """Train a copy of `model`; return loss and gradient norm of every step, float64 [STEPS, 2].

    Pairs are trained with DPO, rows with SFT.
    """
    settings = COMMON | {
        "output_dir": str(out),
        "learning_rate": way.learning_rate,
        "per_device_train_batch_size": way.batch,
        "gradient_accumulation_steps": way.rows // way.batch,
    }
    parts = {"train_dataset": data, "processing_class": tokenizer}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = copy.deepcopy(model)
        if "chosen" in data.column_names:
            trainer = Dpo(own, args=trl.DPOConfig(**settings), **parts)
        else:
            prepared = {"skip_prepare_dataset": True}
            args = trl.SFTConfig(**settings, dataset_kwargs=prepared, padding_free=way.packed)
            loss = loss_of_logits if way.exact else None
            trainer = Sft(own, args=args, compute_loss_func=loss, **parts)
        trainer.remove_callback(PrinterCallback)
        compact = None
        if way.accelerated:
            strop.accelerate(trainer, way.activations, way.micro_batch_tokens)
            compact = compact_forward(trainer)
            compact.backbone.fuse = way.fuse
        trainer.train()
    if compact is not None:
        assert compact.calls
        assert not compact.reported
        assert way.fuse != "always" or not compact.backbone.reported
    assert len(trainer.curve) == STEPS
    return torch.tensor(trainer.curve, dtype=torch.float64)


def compact_forward(trainer):
    """Return strop's forward of an accelerated trainer."""
    watches = (c for c in trainer.callback_handler.callbacks if hasattr(c, "compact"))
    return next(watches).compact
