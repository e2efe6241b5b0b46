"""Supervised fine-tuning: the answers are imitated."""

import dataclasses
import math
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from strop.core.errors import ConfigError
from strop.core.tokens import IGNORE_INDEX
from strop.planning.settings import Settings
from strop.training.dataset import WEIGHTS, TokenizedDataset
from strop.training.methods.adapted import adapted, padding
from strop.training.text.blocks import TextData
from strop.training.trainer import RunTrainer


def fields(_: Settings) -> dict[str, Any]:
    """Return what SFTConfig is given besides the settings: rows come as tokens."""
    return {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


def text_fields(settings: Settings) -> dict[str, Any]:
    """Return what SFTConfig is given for blocks of texts: positions begin anew with each text."""
    return {**fields(settings), "padding_free": True}


def build(
    settings: Settings,
    args: SFTConfig,
    model: Any,
    tokenizer: Any,
    data: TokenizedDataset | TextData,
    callbacks: list[TrainerCallback],
) -> "Trainer":
    """Return a trainer for `model`, which gets a new adapter.

    Args:
        settings: decide the adapter.
        args: what `arguments` returned.
        model: a transformers model without an adapter; PEFT puts the adapter into it.
        tokenizer: gives the padding token.
        data: rows as tokens.
        callbacks: called at every step.

    Raises:
        ConfigError: TRL or PEFT refuses the settings for this model, or the data weights messages
            and the loss cannot.
    """
    if data.weighted and (args.loss_type != "nll" or args.label_smoothing_factor):
        raise ConfigError(
            "the data weighs messages (their `weight`), which this loss cannot: leave loss_type and "
            "label_smoothing_factor out of trainer, or the weights out of the data"
        )
    collator = _WeightCollator(padding(tokenizer)) if data.weighted else None
    return adapted(
        Trainer, settings, args, model, tokenizer, data, callbacks, data_collator=collator
    )


class Trainer(RunTrainer, SFTTrainer):
    """TRL's SFTTrainer with every loss a mean over labelled tokens, whatever is computed at once."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """Take what TRL's trainer takes."""
        super().__init__(*args, **named)
        # TRL's loss divides by the tokens of the step whatever the model's own loss would do;
        # transformers counts them for some models only.
        self.model_accepts_loss_kwargs = True
        self._losses: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Mean loss and number of labelled tokens of each held-out batch."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **named: Any) -> Any:
        """Return TRL's loss; where tokens have weights it is sum(weight * nll) / labelled tokens."""
        weights = inputs.pop(WEIGHTS, None)
        weighted = model if weights is None else _WeightedModel(model, weights)
        result = super().compute_loss(weighted, inputs, *args, **named)
        if not self.model.training:
            loss = result[0] if isinstance(result, tuple) else result
            tokens = inputs["labels"][:, 1:].ne(IGNORE_INDEX).sum()
            self._losses.append((loss.detach().double(), tokens))
        return result

    def evaluation_loop(
        self, *args: Any, metric_key_prefix: str = "eval", **named: Any
    ) -> EvalLoopOutput:
        """Return transformers' result with the loss of all labelled tokens; its own averages rows."""
        self._losses.clear()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **named)
        whole = sum(float(loss * tokens) for loss, tokens in self._losses)
        count = sum(int(tokens) for _, tokens in self._losses)
        output.metrics[f"{metric_key_prefix}_loss"] = whole / count if count else math.nan
        return output


class _WeightedModel:
    """A model for one call of `compute_loss`, whose log-probabilities have the weights of the data."""

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        self.model = model
        self.weights = weights

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        weighted = outputs.log_probs * self.weights[:, 1:]  # [B, T-1]
        return dataclasses.replace(outputs, log_probs=weighted)


class _WeightCollator(DataCollatorForLanguageModeling):
    """TRL's collator, which pads the tokens' weights as well."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        weights = torch.zeros(batch["labels"].shape)  # [B, T]
        for row, example in zip(weights, examples, strict=True):
            row[: len(example[WEIGHTS])] = torch.tensor(example[WEIGHTS])
        return {**batch, WEIGHTS: weights}
