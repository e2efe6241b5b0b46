"""Acceleration of a TRL trainer in one line: the compact forward in, and out again."""

import functools
import logging
import types
from collections.abc import Callable
from typing import Any

import transformers
from accelerate.utils import convert_to_fp32
from transformers import TrainerCallback

from strop.core import env
from strop.core.errors import ConfigError, UnsupportedError
from strop.core.system.heap import return_large_blocks
from strop.forward.base_model import base_model
from strop.forward.compact import CompactForward, Undo, install
from strop.forward.fused_head import FusedHeadOptions
from strop.models.quantized.inference_layout import keep_layout, packed_for_inference
from strop.models.sampling.generate import serve_generate
from strop.training import prefix_batching
from strop.training.dataset import WEIGHTS

log = logging.getLogger("strop")


class _Watch(TrainerCallback):
    """Callback that fails the first step if the trainer bypassed the compact forward; has the undo."""

    def __init__(self, compact: CompactForward, undo: Undo) -> None:
        self.compact = compact
        self.undo = undo
        self._before = 0
        self._warned = False

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Record the number of calls of the forward before this step."""
        self._before = self.compact.calls

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Check that the forward of this step was strop's."""
        if self.compact.calls > self._before or self._warned:
            return
        if self.compact.is_bound():
            self._warned = True
            log.warning(
                "strop changes nothing here: the trainer's compute_loss takes logits or states from "
                "the model, so TRL's own forward ran. To gain from strop, make the loss of "
                "model(**inputs, fused_lm_head=True).log_probs; strop.restore(trainer) takes it out"
            )
        else:
            raise UnsupportedError(
                f"training step {state.global_step} did not call strop's compact forward: something "
                "re-bound the model's forward after strop.accelerate(trainer). Call it last, or take it "
                "out with strop.restore(trainer)"
            )


def accelerate(
    trainer: transformers.Trainer,
    activations: str = "auto",
    micro_batch_tokens: int | None = None,
    *,
    policy: str | None = None,
) -> None:
    """Make a TRL trainer compute each token once and only what its loss needs.

    The trainer's losses, metrics, data and saved files stay its own; results are equal to rounding.
    Answers that a trainer has its model generate (GRPO, RLOO) are drawn by strop's sampler, a prompt of
    several answers computed once.
    Where a step has several micro-batches and the loss is a sum over tokens, rows that begin alike
    change places inside the step so that they come into one.

    Args:
        trainer: a TRL trainer that takes log-probabilities from its model (SFT, DPO, KTO, GRPO, RLOO).
        activations: what is kept for backward: "keep" is fastest, "checkpoint" keeps only the inputs of
            blocks, "offload" moves those out of memory; "auto" is "keep".
        micro_batch_tokens: compute at most this many tokens at once, exactly; None means no limit.
            A limit, "checkpoint" and "offload" also let this process return freed memory at once;
            see `strop.core.system.heap`.
        policy: former name of `activations`, in scripts that were written for it.

    Raises:
        UnsupportedError: the trainer is already accelerated, or its model has no fused head to serve.
        ConfigError: a setting cannot work.
    """
    env.keep_few_products()
    if policy is not None:
        if activations not in ("auto", policy):
            raise ConfigError(f"activations is {activations} and policy, its former name, {policy}")
        activations = policy
    if _watch(trainer) is not None:
        raise UnsupportedError(
            "this trainer is already accelerated; strop.restore(trainer) undoes it"
        )
    scored = getattr(trainer, "scored_model", None)  # a reward's: its hidden rows are all it takes
    models = [trainer.model if scored is None else scored]
    if getattr(trainer, "ref_model", None) is not None:  # only the preference trainers have one
        models.append(trainer.ref_model)
    for model in models:
        base = base_model(model)
        if (
            scored is None
            and FusedHeadOptions.of(base.forward) is None
            and FusedHeadOptions.of(_unprepared(base)) is None
        ):
            raise UnsupportedError(
                f"{type(trainer).__name__} has put no log-probability head on its model, or "
                "something re-bound the model's forward since; strop.accelerate takes TRL's "
                "trainers (trl 1.16 or newer) as they are built"
            )
    if activations in ("checkpoint", "offload") or micro_batch_tokens is not None:
        return_large_blocks()
    linear_loss = _loss_is_linear(trainer)
    repacked = [_keep_4bit_layout(base_model(model)) for model in models]
    installed = [
        _install(
            trainer,
            model,
            activations=activations,
            micro_batch_tokens=micro_batch_tokens,
            linear_loss=linear_loss,
            entropy_gradient=_loss_has_entropy(trainer),
        )
        for model in models
    ]
    checkpointing = trainer.args.activation_checkpointing, trainer.args.gradient_checkpointing
    _set_checkpointing(trainer, False, False)  # strop's `activations` decide what is kept
    undos = [*(undo for _, undo in installed), *repacked]
    draws = hasattr(trainer, "num_generations") or getattr(trainer, "lmbda", 0) > 0
    if draws:  # GRPO, RLOO and GKD draw answers by it
        undos.append(serve_generate(trainer.model))
    if linear_loss and prefix_batching.obstacle(trainer) is None:
        undos.append(prefix_batching.arrange(trainer))

    def undo_all() -> None:
        for undo in undos:
            undo()
        _set_checkpointing(trainer, *checkpointing)

    trainer.add_callback(_Watch(installed[0][0], undo_all))


def compact_forward(trainer: transformers.Trainer) -> CompactForward | None:
    """Return the compact forward of an accelerated trainer's model; None without acceleration."""
    watch = _watch(trainer)
    return None if watch is None else watch.compact


def restore(trainer: transformers.Trainer) -> None:
    """Undo `accelerate`: the model, its forward and the trainer's settings are as they were.

    Raises:
        UnsupportedError: the trainer was not accelerated.
    """
    watch = _watch(trainer)
    if watch is None:
        raise UnsupportedError("this trainer is not accelerated; there is nothing to restore")
    watch.undo()
    trainer.remove_callback(watch)


def _unprepared(base: Any) -> Callable[..., Any]:
    """Return the forward beneath accelerate's autocast, or the forward itself."""
    forward: Callable[..., Any] = vars(base).get("_original_forward", base.forward)
    return forward


def _install(
    trainer: transformers.Trainer, model: Any, **settings: Any
) -> tuple[CompactForward, Undo]:
    """Install the compact forward, beneath accelerate's autocast where a trainer ran before.

    Full fine-tuning in 16 bits: `evaluate` and `train` wrap the model's own forward, once for good.
    """
    base = base_model(model)
    outer = vars(base).get("forward")
    if FusedHeadOptions.of(base.forward) is not None or base is not base_model(trainer.model):
        return install(model, **settings)
    base.forward = _unprepared(base)
    compact, _ = install(model, **settings)
    inner = base.forward.__func__

    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **named: Any) -> Any:
        with trainer.accelerator.autocast():
            answer = inner(self, *args, **named)
        return convert_to_fp32(answer)

    base.forward = types.MethodType(forward, base)

    def undo() -> None:
        base.forward = outer

    return compact, undo


def _keep_4bit_layout(model: Any) -> Undo:
    """Keep bitsandbytes from packing 4-bit weights again in an evaluation.

    Raises:
        UnsupportedError: an evaluation did so already.
    """
    if (name := packed_for_inference(model)) is not None:
        raise UnsupportedError(
            f"{name} was packed for inference by bitsandbytes when this model was evaluated or "
            "generated with, and passes no gradient any more: training would leave out all that "
            "lies beneath. Load the model again and call strop.accelerate(trainer) before the "
            "first evaluation"
        )
    return keep_layout(model)


def _set_checkpointing(trainer: transformers.Trainer, activation: Any, gradient: Any) -> None:
    trainer.args.activation_checkpointing = activation
    trainer.args.gradient_checkpointing = gradient  # the older name, still read by TRL


def _watch(trainer: transformers.Trainer) -> _Watch | None:
    watches = (c for c in trainer.callback_handler.callbacks if isinstance(c, _Watch))
    return next(watches, None)


def _loss_is_linear(trainer: transformers.Trainer) -> bool:
    """Return True if the loss is a constant times the sum of log-probabilities, as plain SFT's is.

    Weights of tokens make it another sum.
    """
    columns = getattr(trainer.train_dataset, "column_names", None) or ()
    if WEIGHTS in columns:
        return False
    plain = getattr(trainer, "compute_loss_func", None) is None and trainer.label_smoother is None
    return plain and getattr(trainer.args, "loss_type", None) == "nll"


def _loss_has_entropy(trainer: transformers.Trainer) -> bool:
    """Return True if the loss has an entropy bonus, as GRPO's can."""
    args = trainer.args
    return bool(getattr(args, "entropy_coef", 0)) or getattr(args, "use_adaptive_entropy", False)
