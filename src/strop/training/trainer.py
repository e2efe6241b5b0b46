"""Trainers of all methods: arguments from settings, and what is saved."""

import difflib
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from peft.utils import load_peft_weights, set_peft_model_state_dict
from transformers import TrainerState, TrainingArguments, get_scheduler
from transformers.trainer_utils import EvalLoopOutput
from transformers.training_args import OptimizerNames

from strop.core.errors import ConfigError, StropError, UnsupportedError
from strop.core.files import read_json, write_json, writing
from strop.forward.gradient_noise import GradientNoise
from strop.models.lora import full_weights
from strop.models.precision import computes_in
from strop.planning import trainer_arguments
from strop.planning.evaluations import checkpoint_interval
from strop.planning.problems.optimizers import MUON
from strop.planning.rewards import REINFORCED
from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.training import memory

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=TrainingArguments)


class RunTrainer(transformers.Trainer):
    """A trainer that sends nothing anywhere and saves only what a resume needs.

    A method's trainer inherits from it first, then from TRL's. Overriding is the seam: no module,
    class or environment variable of another package changes.
    """

    base_name: str | None = None
    """Name of the base model in what is saved."""
    optimizer_of: Callable[[Any], Any] | None = None
    """Returns an optimizer of this trainer with several learning rates; None takes transformers' own."""
    noise: GradientNoise | None = None
    """Measures the noise of gradients where a step has several micro-batches."""
    measure: Callable[[Any, Any, int], dict[str, float]] | None = None
    """Returns what is measured at an evaluation beside the loss, of model, tokenizer and step."""

    def _send_telemetry(self) -> None:
        """Send nothing; TRL would report model family and device to the hub once per trainer."""

    def create_optimizer(self, *args: Any, **named: Any) -> Any:
        """Return transformers' optimizer, or what `optimizer_of` makes."""
        if self.optimizer_of is not None and getattr(self, "optimizer", None) is None:
            self.optimizer = self.optimizer_of(self)
        return super().create_optimizer(*args, **named)

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """Log memory and noise of a step with its loss, so that trackers have them as log.jsonl does."""
        if "loss" in logs:
            noise = self.noise.logged() if self.noise else {}
            logs = {**logs, "memory": memory.used(), **noise}
        super().log(logs, *args, **named)

    def evaluation_loop(
        self, *args: Any, metric_key_prefix: str = "eval", **named: Any
    ) -> EvalLoopOutput:
        """Return transformers' result with the run's measures beside the loss."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **named)
        if self.measure is not None:
            values = self.measure(self.model, self.processing_class, self.state.global_step)
            output.metrics.update({f"{metric_key_prefix}_{k}": v for k, v in values.items()})
        return output

    def reset_counters(self) -> None:
        """Count tokens anew: TRL would count those of an earlier `train` as well."""
        self._total_train_tokens = 0

    def create_model_card(self, *args: Any, **named: Any) -> None:
        """Write no card; run.json and report.html say more."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save what is trained only: no tokenizer, no pickled arguments, no empty model card.

        Its settings name the base as others find it, and layers in order, so that equal runs
        leave equal files.
        """
        folder = Path(output_dir or self.args.output_dir)
        if not self.has_adapter:
            full_weights.save(self.model, folder, self.base_name)
            return
        # False: "auto" may ask the hub whether the vocabulary grew.
        self.model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        config = read_json(folder / "adapter_config.json")
        if self.base_name is not None:
            config["base_model_name_or_path"] = self.base_name
        sets = ("target_modules", "target_parameters", "exclude_modules", "modules_to_save")
        for name in sets:  # in PEFT
            if isinstance(config.get(name), list):
                config[name].sort()
        write_json(folder / "adapter_config.json", config)

    @property
    def has_adapter(self) -> bool:
        """False if the weights of the model itself are trained."""
        return hasattr(self.model, "peft_config")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.has_adapter:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            full_weights.load_into(self.model, Path(resume_from_checkpoint))

    def load_step(self, step: int) -> None:
        """Load the adapter of the checkpoint of a step into the model.

        Raises:
            UnsupportedError: that checkpoint is not there, or incomplete.
        """
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        if folder not in checkpoints.whole(folder.parent):
            raise UnsupportedError(
                f"{folder}, of the best evaluation, is gone or damaged; the adapter of the last "
                "step is in the newest checkpoint"
            )
        if self.has_adapter:
            set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device="cpu"))
        else:
            full_weights.load_into(self.model, folder)

    def load_finished(self, checkpoint: Path, stopped_early: bool = False) -> bool:
        """Load a checkpoint after which no step is left, and return True; else return False.

        `train` would take a further step from it wherever the last step does not end an epoch.

        Args:
            checkpoint: its folder.
            stopped_early: no step is left though it is not the last.
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step < state.max_steps and not stopped_early:
            return False
        self.load_step(state.global_step)
        self.state = state
        return True

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
        except UnsupportedError:
            shutil.rmtree(folder, ignore_errors=True)  # incomplete, it only takes up room
            raise


def steps(settings: Settings, rows: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch and of the whole run on `rows` rows."""
    per_epoch = math.ceil(rows / settings.batch_size)
    if settings.method in REINFORCED:  # batch_size counts answers, and prompts left over wait
        prompts = settings.batch_size // settings.num_generations
        per_epoch = max(1, rows // prompts) * settings.trainer.get("num_iterations", 1)
    return per_epoch, settings.max_steps or math.ceil(settings.epochs * per_epoch)


def arguments(
    config: type[A],
    settings: Settings,
    model: Any,
    *,
    folder: Path,
    rows: int,
    evaluate: bool,
    whole: bool = False,
    **method: Any,
) -> A:
    """Return the configuration of a trainer for a run on `rows` training rows.

    Args:
        config: class of the configuration, such as SFTConfig.
        settings: of the run.
        model: a transformers model, whose device and number format decide.
        folder: for checkpoints.
        rows: number of training rows.
        evaluate: there are held-out rows to measure the loss on.
        whole: the loss compares rows of a batch, so that also without acceleration none is divided.
        **method: further fields that the method needs.

    Raises:
        ConfigError: `settings.trainer` names something that `config` does not have, or that strop
            sets itself, or a value it rejects.
    """
    per_epoch, total = steps(settings, rows)
    rows_at_once = settings.batch_size if settings.accelerate or whole else 1
    fields: dict[str, Any] = {
        **method,
        "output_dir": str(folder),
        "seed": settings.seed,
        "data_seed": settings.seed,
        "num_train_epochs": settings.epochs,
        "max_steps": total if settings.method in REINFORCED else settings.max_steps or -1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(
            settings.schedule, settings.schedule
        ),
        # A float below 1 is a share to TrainingArguments, so a whole number is given.
        "warmup_steps": math.ceil(settings.warmup * total),
        "weight_decay": settings.weight_decay,
        **({"optim": _optimizer(settings.optimizer)} if settings.optimizer else {}),
        "max_grad_norm": settings.max_grad_norm,
        "per_device_train_batch_size": rows_at_once,
        "per_device_eval_batch_size": rows_at_once,
        "gradient_accumulation_steps": settings.batch_size // rows_at_once,
        "activation_checkpointing": settings.activations == "checkpoint"
        and not settings.accelerate,
        "remove_unused_columns": False,
        "bf16": computes_in(model) == torch.bfloat16,
        "fp16": computes_in(model) == torch.float16,
        "use_cpu": model.device.type == "cpu",
        "save_steps": checkpoint_interval(settings, total),
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
        args = config(**fields, **given)
        without = {
            name: config(**fields, **_without(given, name)) for name in given if name in _OPTIM
        }
        args.report_to = []  # transformers adds Kubeflow's by itself; ours are callbacks
        _check_optimizer(args, without)
        _check_schedule(args, total)
    except (ValueError, TypeError, ImportError) as e:
        if isinstance(e, StropError):
            raise
        raise ConfigError(f"trainer: a run does not take {given}: {e}") from e
    return args


def _optimizer(name: str) -> str:
    """Return transformers' name of an optimizer, or raise ConfigError if it is not known."""
    names = {"adamw": "adamw_torch", MUON: "adamw_torch"}  # to which Muon leaves vectors
    names |= {kind.value: kind.value for kind in OptimizerNames}
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or names
        raise ConfigError(f"optimizer is {name!r}; known are {', '.join(near)}")
    return names[name]


_OPTIM = ("adam_beta1", "adam_beta2", "adam_epsilon", "optim_args")


def _without(given: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: value for other, value in given.items() if other != name}


def _check_optimizer(args: TrainingArguments, without: Mapping[str, TrainingArguments]) -> None:
    """Refuse an optimizer that is not there, and arguments that it does not read.

    Args:
        args: of the run.
        without: for each argument of the optimizer that is given, the configuration without it.
    """
    chosen = transformers.Trainer.get_optimizer_cls_and_kwargs(args)
    for name, other in without.items():
        same = transformers.Trainer.get_optimizer_cls_and_kwargs(other) == chosen
        if same and getattr(args, name) != getattr(other, name):
            raise ConfigError(
                f"trainer.{name} has no effect with optim={args.optim.value}; leave it out"
            )


def _check_schedule(args: TrainingArguments, total: int) -> None:
    """Refuse numbers that the learning rate's schedule does not take."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=int(args.warmup_steps),
        num_training_steps=total,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )
