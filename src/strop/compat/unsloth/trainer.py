"""TRL's trainers, accelerated by strop, that also take the arguments of Unsloth's notebooks."""

import inspect
import logging
import warnings
from typing import Any

import trl
from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq

from strop.compat.unsloth.origins import origin_of
from strop.core.errors import UnsupportedError
from strop.training.acceleration import accelerate, compact_forward
from strop.training.methods.optimizers import with_embedding_rate

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*trl.experimental")
    from trl.experimental import cpo, orpo

log = logging.getLogger("strop")

_OF_ARGS = (
    *("max_seq_length", "dataset_text_field", "packing", "dataset_num_proc", "dataset_kwargs"),
    *(
        "beta",
        "max_length",
        "max_prompt_length",
        "loss_type",
        "eval_packing",
        "neftune_noise_alpha",
    ),
    *("num_of_sequences", "chars_per_token", "dataset_batch_size"),
)
"""Arguments of trainers before TRL 1.0 that are fields of the configuration."""
_PADDING = (DataCollatorForSeq2Seq, DataCollatorForLanguageModeling)
"""Collators that pad rows as the trainer's own does."""


class AcceleratedTrainer:
    """Mixin of a trainer: older arguments, the model's row length, `strop.accelerate` when it trains."""

    def __init__(self, model: Any = None, *args: Any, **named: Any) -> None:
        """Build the trainer.

        Args:
            model: of `FastLanguageModel`, or any that TRL takes.
            *args: TRL's.
            **named: TRL's, and those of TRL before 1.0.
        """
        names = inspect.signature(_plain(type(self))).parameters
        if "tokenizer" in named and "tokenizer" not in names:
            named["processing_class"] = named.pop("tokenizer")
        given = {k: named.pop(k) for k in _OF_ARGS if k in named and k not in names}
        if type(named.get("data_collator")) in _PADDING:
            del named["data_collator"]
        origin = origin_of(model)
        config = named.get("args")
        if config is not None:
            _set(config, given, None if origin is None else origin.max_seq_length)
            self._prepare_rows(named, config)
        self.activations = "auto" if origin is None else origin.activations
        super().__init__(model, *args, **named)  # type: ignore[call-arg]

    def _prepare_rows(self, named: dict[str, Any], config: Any) -> None:
        """Change what the trainer is given of rows; nothing here."""

    def train(self, *args: Any, **named: Any) -> Any:
        """Train with only what the loss needs computed."""
        self.model.train()  # type: ignore[attr-defined]
        try:
            if compact_forward(self) is None:
                accelerate(self, activations=self.activations)
        except UnsupportedError as e:
            log.warning("training runs as TRL runs it: %s", e)
        return super().train(*args, **named)  # type: ignore[misc]


def _plain(trainer: type) -> type:
    """Return TRL's class."""
    order = trainer.__mro__
    return order[order.index(AcceleratedTrainer) + 1]


def _set(config: Any, given: dict[str, Any], length: int | None) -> None:
    """Set fields of a configuration that the trainer was given, and the length that nobody gave."""
    if (most := given.pop("max_seq_length", None) or given.get("max_length")) is not None:
        config.max_length = most
    elif length is not None and not getattr(config, "length_is_given", True):
        config.max_length = length
    given.pop("max_length", None)
    for name, value in given.items():
        if hasattr(config, name) and value is not None:
            setattr(config, name, value)
        elif value is not None:
            log.info("%s=%r has no effect in this TRL", name, value)


class SFTTrainer(AcceleratedTrainer, trl.SFTTrainer):
    """TRL's; begin and end tokens that a template wrote are not put there again."""

    def _prepare_rows(self, named: dict[str, Any], config: Any) -> None:
        tokenizer = named.get("processing_class")
        if tokenizer is None or named.get("formatting_func") is not None:
            return
        name = getattr(config, "dataset_text_field", "text")
        for part in ("train_dataset", "eval_dataset"):
            named[part] = _marked_once(named.get(part), name, tokenizer)


def _marked_once(rows: Any, name: str, tokenizer: Any) -> Any:
    """Return texts without the token that encoding puts first, and without space behind their end.

    TRL puts another end token behind a text that does not end in one, and prefers conversations to
    the texts beside them.
    """
    columns = getattr(rows, "column_names", None) or ()
    if name not in columns or not hasattr(rows, "select"):
        return rows
    end = tokenizer.eos_token or ""
    begin = tokenizer.bos_token or ""
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]

    def once(row: dict[str, Any]) -> dict[str, str]:
        text = row[name].removeprefix(begin) if begins else row[name]
        short = text.rstrip()
        return {name: short if end and short.endswith(end) else text}

    rows = rows.select_columns([name])
    some = rows.select(range(min(100, len(rows))))
    if all(once(row)[name] == row[name] for row in some):
        return rows
    return rows.map(once)


class UnslothTrainer(SFTTrainer):
    """TRL's SFTTrainer; an embedding and a head that are trained have `embedding_learning_rate`."""

    optimizer: Any

    def create_optimizer(self, *args: Any, **named: Any) -> Any:
        """Return the optimizer, with groups of their own for embedding and head."""
        rate = getattr(self.args, "embedding_learning_rate", None)
        if rate is None or self.optimizer is not None:
            return super().create_optimizer(*args, **named)
        self.optimizer = with_embedding_rate(self, rate)
        return self.optimizer


class DPOTrainer(AcceleratedTrainer, trl.DPOTrainer):
    """TRL's."""


class KTOTrainer(AcceleratedTrainer, trl.KTOTrainer):
    """TRL's."""


class GRPOTrainer(AcceleratedTrainer, trl.GRPOTrainer):
    """TRL's; answers are drawn by strop's sampler."""


class RLOOTrainer(AcceleratedTrainer, trl.RLOOTrainer):
    """TRL's; answers are drawn by strop's sampler."""


class ORPOTrainer(AcceleratedTrainer, orpo.ORPOTrainer):
    """TRL's."""


class CPOTrainer(AcceleratedTrainer, cpo.CPOTrainer):
    """TRL's."""


def unsloth_train(trainer: Any, *args: Any, **named: Any) -> Any:
    """Train, accelerated; gradients of a step's parts are weighed by their tokens, as TRL does."""
    if not isinstance(trainer, AcceleratedTrainer):
        accelerate(trainer)
    return trainer.train(*args, **named)
