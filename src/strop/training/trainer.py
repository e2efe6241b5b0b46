"""TRL's trainer as strop sets it up: settings turned into its arguments, nothing sent anywhere."""

import dataclasses
import logging
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from peft.utils import load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, TrainerCallback, get_scheduler
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from strop.core.errors import ConfigError, StropError, UnsupportedError
from strop.core.tokens import IGNORE_INDEX
from strop.models.lora import initialisation as lora_init
from strop.models.precision import computes_in
from strop.planning import trainer_arguments
from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.runs.checkpoints import saving
from strop.training.dataset import WEIGHTS

logger = logging.getLogger(__name__)


class _Weighing:
    """A model for one call of `compute_loss`, whose log-probabilities count as the data says."""

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        self.model = model
        self.weights = weights

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        weighed = outputs.log_probs * self.weights[:, 1:]  # [B, T-1]
        return dataclasses.replace(outputs, log_probs=weighed)


class _WeightCollator(DataCollatorForLanguageModeling):
    """TRL's collator, which pads the tokens' weights as well."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        weights = torch.zeros(batch["labels"].shape)  # [B, T]
        for row, example in zip(weights, examples, strict=True):
            row[: len(example[WEIGHTS])] = torch.tensor(example[WEIGHTS])
        return {**batch, WEIGHTS: weights}


class Trainer(SFTTrainer):
    """TRL's SFTTrainer that keeps to itself and saves only what a resume needs.

    Every loss is a mean over labelled tokens, however many rows are computed at once. Overriding is
    the seam: no module, class or environment variable of another package changes.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        """Take what TRL's trainer takes."""
        super().__init__(*args, **named)
        # TRL's loss divides by the tokens of the step whatever the model's own loss would do;
        # transformers counts them for some models only.
        self.model_accepts_loss_kwargs = True
        self._held_out: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _send_telemetry(self) -> None:
        """Send nothing; TRL would report model family and device to the hub once per trainer."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **named: Any) -> Any:
        """Return TRL's loss; where tokens have weights it is sum(weight * nll) / labelled tokens."""
        weights = inputs.pop(WEIGHTS, None)
        counted = model if weights is None else _Weighing(model, weights)
        result = super().compute_loss(counted, inputs, *args, **named)
        if not self.model.training:
            loss = result[0] if isinstance(result, tuple) else result
            tokens = inputs["labels"][:, 1:].ne(IGNORE_INDEX).sum()
            self._held_out.append((loss.detach().double(), tokens))
        return result

    def evaluation_loop(
        self, *args: Any, metric_key_prefix: str = "eval", **named: Any
    ) -> EvalLoopOutput:
        """Return transformers' result with the loss of all labelled tokens; its own averages rows."""
        self._held_out.clear()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **named)
        whole = sum(float(loss * tokens) for loss, tokens in self._held_out)
        count = sum(int(tokens) for _, tokens in self._held_out)
        output.metrics[f"{metric_key_prefix}_loss"] = whole / count if count else math.nan
        return output

    def create_model_card(self, *args: Any, **named: Any) -> None:
        """Write no card; run.json and report.html say more."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter only: no tokenizer, no pickled arguments."""
        folder = Path(output_dir or self.args.output_dir)
        # False: "auto" may ask the hub whether the vocabulary grew.
        self.model.save_pretrained(folder, save_embedding_layers=False)

    def load_step(self, step: int) -> None:
        """Put the adapter of the checkpoint of a step into the model.

        Raises:
            UnsupportedError: that checkpoint is not there, or not whole.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        if folder not in checkpoints.whole(folder.parent):
            raise UnsupportedError(
                f"{folder}, of the lowest held-out loss, is gone or damaged; the adapter of the last "
                "step is in the newest checkpoint"
            )
        set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device="cpu"))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            with saving(folder):
                super()._save_checkpoint(model, trial)
        except UnsupportedError:
            shutil.rmtree(folder, ignore_errors=True)  # a torso would only take up room
            raise


def steps(settings: Settings, rows: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch and of the whole run on `rows` rows."""
    per_epoch = math.ceil(rows / settings.batch_size)
    return per_epoch, settings.max_steps or math.ceil(settings.epochs * per_epoch)


def arguments(settings: Settings, folder: Path, rows: int, model: Any, evaluate: bool) -> SFTConfig:
    """Return TRL's configuration for a run on `rows` training rows.

    Raises:
        ConfigError: `settings.trainer` names something SFTConfig does not have, or that strop
            sets itself, or a value SFTConfig rejects.
    """
    per_epoch, total = steps(settings, rows)
    rows_at_once = settings.batch_size if settings.accelerate else 1
    own: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": settings.seed,
        "data_seed": settings.seed,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(
            settings.schedule, settings.schedule
        ),
        # A float below 1 is a share to TrainingArguments, so a whole number is given.
        "warmup_steps": math.ceil(settings.warmup * total),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "per_device_train_batch_size": rows_at_once,
        "per_device_eval_batch_size": rows_at_once,
        "gradient_accumulation_steps": settings.batch_size // rows_at_once,
        "activation_checkpointing": settings.activations == "checkpoint"
        and not settings.accelerate,
        "max_length": None,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "bf16": computes_in(model) == torch.bfloat16,
        "fp16": computes_in(model) == torch.float16,
        "use_cpu": model.device.type == "cpu",
        "save_steps": settings.save_every or max(1, math.ceil(total / 10)),
        # Steps rather than epochs: then a loss is measured before the checkpoint of its step is
        # saved, and the random state that a resume restores is the one after it.
        "eval_strategy": "steps" if evaluate else "no",
        "eval_steps": settings.eval_every or per_epoch,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    for sentence in trainer_arguments.without_effect(settings.trainer):
        logger.warning("%s", sentence)
    given = trainer_arguments.passed_on(settings.trainer)
    try:
        args = SFTConfig(**own, **given)
        plain = {
            name: SFTConfig(**own, **_without(given, name)) for name in given if name in _OPTIM
        }
        _check_optimizer(args, plain)
        _check_schedule(args, total)
    except (ValueError, TypeError, ImportError) as e:
        if isinstance(e, StropError):
            raise
        raise ConfigError(f"trainer: a run does not take {given}: {e}") from e
    return args


_OPTIM = ("adam_beta1", "adam_beta2", "adam_epsilon", "optim_args")


def _without(given: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in given.items() if other != name}


def _check_optimizer(args: SFTConfig, plain: dict[str, SFTConfig]) -> None:
    """Refuse an optimizer that is not there, and arguments that it does not read.

    Args:
        args: of the run.
        plain: for each argument of the optimizer that is given, the same without it.
    """
    chosen = SFTTrainer.get_optimizer_cls_and_kwargs(args)
    for name, other in plain.items():
        same = SFTTrainer.get_optimizer_cls_and_kwargs(other) == chosen
        if same and getattr(args, name) != getattr(other, name):
            raise ConfigError(
                f"trainer.{name} has no effect with optim={args.optim.value}; leave it out"
            )


def _check_schedule(args: SFTConfig, total: int) -> None:
    """Refuse numbers that the learning rate's schedule does not take."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=int(args.warmup_steps),
        num_training_steps=total,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )


def build(
    settings: Settings,
    args: SFTConfig,
    model: Any,
    tokenizer: Any,
    sets: tuple[datasets.Dataset, datasets.Dataset | None],
    callbacks: list[TrainerCallback],
) -> Trainer:
    """Return a trainer for `model`, which gets a fresh adapter.

    Args:
        settings: decide the adapter.
        args: what `arguments` returned.
        model: a transformers model without an adapter; PEFT puts the adapter into it.
        tokenizer: gives the padding token.
        sets: training rows, and held-out rows or None, as input_ids and labels.
        callbacks: are told of every step.

    Raises:
        ConfigError: TRL or PEFT refuses the settings for this model, or the data weighs messages and
            the loss cannot.
    """
    weighted = WEIGHTS in sets[0].column_names
    if weighted and (args.loss_type != "nll" or args.label_smoothing_factor):
        raise ConfigError(
            "the data weighs messages (their `weight`), which this loss cannot: leave loss_type and "
            "label_smoothing_factor out of trainer, or the weights out of the data"
        )
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.modules,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that transformers has deprecated.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            trainer = Trainer(
                model,
                args=args,
                train_dataset=sets[0],
                eval_dataset=sets[1],
                processing_class=tokenizer,
                peft_config=lora,
                callbacks=callbacks,
                data_collator=_WeightCollator(_padding(tokenizer)) if weighted else None,
            )
    except ValueError as e:
        raise ConfigError(f"TRL's trainer does not take these settings: {e}") from e
    trainer.remove_callback(PrinterCallback)
    if settings.lora_init == "quantization_error":
        lora_init.begin(trainer.model, Path(model.name_or_path) / lora_init.FOLDER)
    return trainer


def _padding(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)
