"""Supervised fine-tuning: rows with answers, and the trainer that imitates them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from strop.core.errors import ConfigError, DataError
from strop.core.progress import Progress
from strop.core.quiet import quiet
from strop.core.system.processes import check_single
from strop.core.tokens import IGNORE_INDEX
from strop.data.reading.blend import sources_named
from strop.models.lora import initialisation as lora_init
from strop.models.lora.config import lora_config
from strop.planning.settings import Settings
from strop.runs.run import Run
from strop.training.dataset import WEIGHTS, TokenizedDataset, length_limit, prepare
from strop.training.loaded_model import check_causal, check_embeddings
from strop.training.opening import OpenRun, open_run
from strop.training.session import Session
from strop.training.trainer import RunTrainer, arguments


def train(
    data: Any = None,
    *,
    model: Any = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune `model` on `data` with a LoRA adapter and return the run.

    Ctrl-C and SIGTERM end the current step, save a checkpoint and return; a second one raises
    KeyboardInterrupt at once. A run that was stopped, or killed, goes on with `resume` from its
    last complete checkpoint and ends with the same adapter, bit for bit, as one never stopped.

    Args:
        data: a file, several (`["a.jsonl", "b.csv:0.5"]`, or `{"path": ..., "weight": ...}` each), a
            `datasets.Dataset`, a DataFrame or a list of dicts. When resuming, only needed where the
            run was given rows rather than a file.
        model: a name as `strop.load` takes it, or a transformers model; None takes the default
            of `Settings`. A model object gets the adapter put into it.
        tokenizer: of a model object; with a name, replaces the model's own.
        out: folder of the run, new or empty; None takes the next free one under `runs/`.
        resume: folder of a run to go on with.
        overwrite: delete the run in `out` first.
        quiet: show nothing on the terminal.
        **settings: fields of `Settings`.

    Returns:
        The run; `run.finished` is False when it was stopped before its end.

    Raises:
        ConfigError: settings that cannot work, `out` is in use, or `resume` is no open run.
        DataError: rows that cannot be used, all of them listed.
        UnsupportedError: the disk is full, the loss is no longer a number, or this is one of
            several processes.
    """
    check_single("strop.train")
    explicit = dict(settings)
    rows = None if sources_named(data) else data
    if rows is None and data is not None:
        explicit["data"] = data
    if out is not None:
        explicit["out"] = str(out)
    if model is None or isinstance(model, str | Path):
        explicit |= {} if model is None else {"model": model}
        model = None
    else:
        check_causal(model)
        explicit["model"] = model.name_or_path or type(model).__name__
    given = model is not None
    with open_run(explicit, resume, overwrite=overwrite, model_given=given) as opened:
        return fine_tune(opened, rows, model, tokenizer, quiet=quiet)


@quiet()
def fine_tune(
    opened: OpenRun,
    rows: Any = None,
    model: Any = None,
    tokenizer: Any = None,
    *,
    quiet: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Train the run that `open_run` returned; arguments and errors are those of `train`.

    Args:
        opened: the run and its settings.
        rows: to train on, where the settings name no file.
        model: an object, or None for the model that the settings name.
        tokenizer: of the model object, or instead of the model's.
        quiet: show nothing on the terminal.
        progress: called after each step, instead of a bar on the terminal.
    """
    source = opened.settings.data if rows is None else rows
    if source is None:
        raise DataError("there is no data to train on; give a file, a dataset or a list of rows")
    session = Session(opened, model, tokenizer, quiet=quiet, progress=progress)
    limit = length_limit(session.settings, session.model.config)
    dataset = prepare(source, session.tokenizer, session.settings, limit)
    check_embeddings(dataset, session.model, session.tokenizer)
    args = arguments(
        SFTConfig,
        session.settings,
        session.model,
        folder=session.run.checkpoints_folder,
        rows=len(dataset.train),
        evaluate=dataset.evaluates,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    callbacks = session.begin(dataset, args)
    trainer = build(session.settings, args, session.model, session.tokenizer, dataset, callbacks)
    session.train(trainer)
    return session.run


def build(
    settings: Settings,
    args: SFTConfig,
    model: Any,
    tokenizer: Any,
    dataset: TokenizedDataset,
    callbacks: list[TrainerCallback],
) -> "Trainer":
    """Return a trainer for `model`, which gets a new adapter.

    Args:
        settings: decide the adapter.
        args: what `arguments` returned.
        model: a transformers model without an adapter; PEFT puts the adapter into it.
        tokenizer: gives the padding token.
        dataset: rows as tokens.
        callbacks: called at every step.

    Raises:
        ConfigError: TRL or PEFT refuses the settings for this model, or the data weights messages
            and the loss cannot.
    """
    train, held_out = dataset.sets()
    weighted = WEIGHTS in train.column_names
    if weighted and (args.loss_type != "nll" or args.label_smoothing_factor):
        raise ConfigError(
            "the data weighs messages (their `weight`), which this loss cannot: leave loss_type and "
            "label_smoothing_factor out of trainer, or the weights out of the data"
        )
    try:
        with quiet():
            trainer = Trainer(
                model,
                args=args,
                train_dataset=train,
                eval_dataset=held_out,
                processing_class=tokenizer,
                peft_config=lora_config(
                    settings.rank, settings.alpha, settings.modules, settings.dropout
                ),
                callbacks=callbacks,
                data_collator=_WeightCollator(_padding(tokenizer)) if weighted else None,
            )
    except ValueError as e:
        raise ConfigError(f"TRL's trainer does not take these settings: {e}") from e
    trainer.remove_callback(PrinterCallback)
    if settings.lora_init == "quantization_error":
        lora_init.begin(trainer.model, Path(model.name_or_path) / lora_init.FOLDER)
    return trainer


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


def _padding(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)
