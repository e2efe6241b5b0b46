"""Training on rewards of answers that the model samples: GRPO (arXiv:2402.03300), RLOO (2402.14740).

Of each prompt G answers are drawn; the advantage of an answer is its reward beside those of its group.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainingArguments
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import RepeatSampler

from strop.data.encoding.chat import chat_ids
from strop.planning.settings import Settings
from strop.training.methods.adapted import adapted
from strop.training.methods.prompts import Prompts
from strop.training.rewards import RewardError, rewards_of
from strop.training.rewards.drawn import DrawnAnswers
from strop.training.trainer import RunTrainer

STATE = "sampled.safetensors"
"""File of a checkpoint: answers of which not every update was taken."""


def fields(settings: Settings) -> dict[str, Any]:
    """Return what GRPOConfig or RLOOConfig is given besides the settings."""
    names = ("num_generations", "max_completion_length", "temperature", "beta")
    return {name: getattr(settings, name) for name in names}


def build(
    settings: Settings,
    args: TrainingArguments,
    model: Any,
    tokenizer: Any,
    data: Prompts,
    callbacks: list[TrainerCallback],
) -> "Grpo | Rloo":
    """Return a trainer for `model`, which gets a new adapter; arguments are those of `adapted`."""
    rewards = rewards_of(settings, data.records)
    args.reward_weights = [reward.weight for reward in rewards]
    callbacks = [*callbacks, DrawnAnswers(rewards, Path(args.output_dir).parent)]
    trainer_class = Grpo if settings.method == "grpo" else Rloo
    return adapted(
        trainer_class, settings, args, model, tokenizer, data, callbacks, reward_funcs=rewards
    )


class _SamplingTrainer(RunTrainer):
    """What both trainers override: strop's template, and a state of sampling that is resumed."""

    _tokens_before: int | None = None
    """Tokens that earlier attempts of a resumed run saw."""

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Return the ids of the prompts, rendered as in every run of strop."""
        return [chat_ids(self.processing_class, prompt) for prompt in prompts], None, {}

    def _get_train_sampler(self, dataset: Any = None) -> RepeatSampler:
        """Return TRL's sampler of prompts, whose order in an epoch is the same when it is resumed."""
        sampler = super()._get_train_sampler(dataset)
        return _EpochSampler(
            sampler.data_source,
            sampler.mini_repeat_count,
            sampler.batch_size,
            sampler.repeat_count,
            sampler.shuffle,
            sampler.seed,
        )

    def training_step(self, *args: Any, **named: Any) -> torch.Tensor:
        """Take a step; the first after a resume goes on with the answers drawn before."""
        if self._tokens_before is None:
            self._tokens_before = self.state.num_input_tokens_seen
            self._step = self.state.global_step
        return super().training_step(*args, **named)

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        """Log the tokens of this attempt; TRL's number is that of all."""
        if "loss" in logs:
            seen = self.state.num_input_tokens_seen
            self._metrics["train"]["num_tokens"] = [seen - (self._tokens_before or 0)]
        super().log(logs, *args, **named)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Return TRL's batch; where a reward fails, a checkpoint of the step before is left.

        Raises:
            RewardError: names the reward and what is wrong with it.
        """
        random_state = torch.get_rng_state()
        try:
            return super()._generate_and_score_completions(inputs)
        except RewardError as e:
            torch.set_rng_state(random_state)
            step = self.state.global_step
            folder = Path(self.args.output_dir) / f"checkpoint-{step}"
            if step and self.model.training and not folder.exists():
                self._save_checkpoint(self.model, None)
                self.callback_handler.on_save(self.args, self.state, self.control)
            run = folder.parent.parent
            raise RewardError(
                f"{e}. Training stopped after step {step}"
                + (f"; go on with strop train --resume {run}" if step else "")
            ) from e

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.num_iterations > 1 and self._buffered_inputs is not None:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            tensors = {
                f"{i}.{name}": tensor.contiguous()
                for i, batch in enumerate(self._buffered_inputs)
                for name, tensor in batch.items()
                if isinstance(tensor, torch.Tensor)
            }
            save_file(tensors, folder / STATE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not (file := Path(checkpoint) / STATE).is_file():
            return
        batches: dict[int, dict[str, Any]] = {}
        for key, tensor in load_file(file, device=str(self.accelerator.device)).items():
            place, _, name = key.partition(".")
            batches.setdefault(int(place), {})[name] = tensor
        self._buffered_inputs = [batches[i] for i in range(len(batches))]


class _EpochSampler(RepeatSampler):
    """TRL's sampler with an order that follows from seed and epoch; TRL's from all epochs before."""

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch next."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


class Grpo(_SamplingTrainer, GRPOTrainer):
    """TRL's GRPOTrainer on strop's prompts and rewards."""


class Rloo(_SamplingTrainer, RLOOTrainer):
    """TRL's RLOOTrainer on strop's prompts and rewards."""
