"""Preference training without a reference model: ORPO (arXiv:2403.07691), SimPO (arXiv:2405.14734).

TRL's trainers read both losses from whole logits [2 B, T, V]; here they come from the fused head.
"""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import TrainerCallback, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from strop.core.tokens import IGNORE_INDEX
from strop.forward.base_model import base_model
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.methods import dpo
from strop.training.methods.adapted import adapted, padding
from strop.training.trainer import RunTrainer

if TYPE_CHECKING:
    import datasets

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*trl.experimental")
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

CONFIGS = {"orpo": ORPOConfig, "simpo": CPOConfig}
"""Configuration of each method's trainer."""

_UNLIMITED = 1 << 30
"""TRL's `max_length`, which cuts texts only; None would log a warning."""


def fields(settings: Settings) -> dict[str, Any]:
    """Return what CPOConfig or ORPOConfig is given besides the settings: pairs come as tokens."""
    common = {"max_length": _UNLIMITED, "beta": settings.beta}
    if settings.method == "orpo":
        return common
    simpo = {"cpo_alpha": 0.0, "simpo_gamma": 0.5 * settings.beta}
    left = {name: value for name, value in simpo.items() if name not in settings.trainer}
    return {**common, "loss_type": "simpo", **left}


class WholePairs(dpo.PairDataset):
    """Pairs whose answers stand behind their prompts, as CPO's collator pads them."""

    def table(self, rows: list[dpo.Pair]) -> "datasets.Dataset":
        """Return pairs as TRL's collator takes them."""
        import datasets

        columns: dict[str, list[list[int]]] = {}
        for name in ("chosen", "rejected"):
            answers = [getattr(pair, name) for pair in rows]
            both = list(zip(rows, answers, strict=True))
            columns[f"{name}_input_ids"] = [pair.prompt + answer for pair, answer in both]
            columns[f"{name}_attention_mask"] = [
                [1] * (len(pair.prompt) + len(answer)) for pair, answer in both
            ]
            columns[f"{name}_labels"] = [
                [IGNORE_INDEX] * len(pair.prompt) + answer for pair, answer in both
            ]
        return datasets.Dataset.from_dict(columns)


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> WholePairs:
    """Return the pairs as tokens; arguments and errors are those of `dpo.encode`."""
    pairs = dpo.encode(rows, tokenizer, settings, limit)
    return WholePairs(
        **{field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)}
    )


def build(
    settings: Settings,
    args: TrainingArguments,
    model: Any,
    tokenizer: Any,
    data: WholePairs,
    callbacks: list[TrainerCallback],
) -> "Orpo | Simpo":
    """Return a trainer for `model`, which gets a new adapter; arguments are those of `adapted`."""
    trainer_class = Orpo if settings.method == "orpo" else Simpo
    trainer = adapted(trainer_class, settings, args, model, tokenizer, data, callbacks)
    if settings.accelerate:
        trainer.use_fused_head()
    return trainer


class _PairTrainer(RunTrainer):
    """What both trainers override: rows are tokens, and log-probabilities come from a fused head.

    An accelerated trainer has that head put on its model; without acceleration TRL's code runs.
    """

    prompt_is_learned = False
    """Whether the negative log-likelihood is of the prompt as well."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """Take what TRL's trainer takes."""
        super().__init__(*args, **named)
        self._tokens = 0
        self._fused = False

    def use_fused_head(self) -> None:
        """Put TRL's fused head on the model, and take log-probabilities from it from now on."""
        add_fused_lm_head(base_model(self.model), outputs=("log_probs", "mean_logits"))
        self._fused = True

    @staticmethod
    def tokenize_row(*_: Any, **__: Any) -> dict[str, Any]:
        """Return no further columns: strop encoded the rows."""
        return {}

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return mean log-probabilities of both answers, their mean logits, and the chosen one's NLL."""
        if self.model.training:
            masks = (batch["chosen_attention_mask"], batch["rejected_attention_mask"])
            self._tokens += sum(int(mask.sum()) for mask in masks)
        if not self._fused or self.aux_loss_enabled:
            return super().concatenated_forward(model, batch)
        both = self.concatenated_inputs(
            batch,
            padding_value=padding(self.processing_class),
            device=self.accelerator.device,
        )
        ids, mask, labels = (
            both[f"concatenated_{name}"] for name in ("input_ids", "attention_mask", "labels")
        )  # [2 B, T]
        chosen = len(batch["chosen_labels"])
        learned = labels.clone()
        if self.prompt_is_learned:
            learned[:chosen] = ids[:chosen].masked_fill(mask[:chosen] == 0, IGNORE_INDEX)
        outputs = model(
            input_ids=ids, attention_mask=mask, labels=learned, use_cache=False, fused_lm_head=True
        )
        log_probs, logits = outputs.log_probs, outputs.mean_logits  # [2 B, T-1]
        answers = labels[:, 1:] != IGNORE_INDEX
        means = (log_probs * answers).sum(-1) / answers.sum(-1)  # [2 B]
        count = (learned[:chosen, 1:] != IGNORE_INDEX).sum()
        nll = -log_probs[:chosen].sum() / count
        seen = [logits[part][answers[part]] for part in (slice(chosen), slice(chosen, None))]
        return means[:chosen], means[chosen:], *seen, nll

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """Log the number of tokens so far, which these trainers of TRL do not count."""
        if "loss" in logs:
            logs = {**logs, "num_tokens": self._tokens}
        super().log(logs, *args, **named)


class Orpo(_PairTrainer, ORPOTrainer):
    """TRL's ORPOTrainer; its likelihood is of prompt and answer, as in TRL."""

    prompt_is_learned = True


class Simpo(_PairTrainer, CPOTrainer):
    """TRL's CPOTrainer with the loss of SimPO."""
