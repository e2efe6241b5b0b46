"""Training of a reward model: of each pair the chosen answer gets a higher reward than the other.

The loss of a pair is -log sigmoid(r(chosen) - r(rejected)), r being a head of one row on the hidden
state of an answer's last token (Bradley-Terry; Ouyang et al. 2022, arXiv:2203.02155, Eq. 1); on TRL's
RewardTrainer.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from trl import RewardConfig, RewardTrainer

from strop.planning.settings import Settings
from strop.runs.reward_model import HEAD, classifier_on, rewards_of_batch
from strop.runs.run_data import SplitRows
from strop.training.acceleration import compact_forward
from strop.training.methods import dpo
from strop.training.methods.adapted import adapted, padding
from strop.training.trainer import RunTrainer

if TYPE_CHECKING:
    import datasets

_LOGGED = {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}
"""Names of what is logged, with those that preference trainers give them."""


def fields(settings: Settings) -> dict[str, Any]:
    """Return what RewardConfig is given besides the settings: pairs come as tokens."""
    return {"max_length": None, "disable_dropout": settings.dropout == 0}


class RankedPairs(dpo.PairDataset):
    """Pairs whose answers stand behind their prompts."""

    def table(self, rows: list[dpo.Pair]) -> "datasets.Dataset":
        """Return pairs as TRL's collator takes them."""
        import datasets

        return datasets.Dataset.from_dict(
            {
                "chosen_ids": [pair.prompt + pair.chosen for pair in rows],
                "rejected_ids": [pair.prompt + pair.rejected for pair in rows],
            }
        )


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> RankedPairs:
    """Return the pairs as tokens; arguments and errors are those of `dpo.encode`."""
    pairs = dpo.encode(rows, tokenizer, settings, limit)
    pairs.facts["notes"][-1] = (
        "method reward: of each pair the chosen answer gets the higher reward; the run writes no text, "
        "it scores answers: strop train PROMPTS --reward RUN"
    )
    return RankedPairs(
        **{field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)}
    )


def build(
    settings: Settings,
    args: RewardConfig,
    model: Any,
    tokenizer: Any,
    data: RankedPairs,
    callbacks: list[TrainerCallback],
) -> "Trainer":
    """Return a trainer for a classifier on the decoder of `model`, which gets a new adapter."""
    model.requires_grad_(False)
    classifier = classifier_on(model, settings.seed)
    trainer = adapted(Trainer, settings, args, classifier, tokenizer, data, callbacks)
    trainer.scored_model, trainer.pad = model, padding(tokenizer)
    return trainer


class Trainer(RunTrainer, RewardTrainer):
    """TRL's RewardTrainer; accelerated, rewards come from the hidden rows of last tokens."""

    scored_model: Any
    """The language model whose decoder is trained."""
    pad: int

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **named: Any) -> Any:
        """Return TRL's loss."""
        outcome = super().compute_loss(_Scored(self, model), inputs, *args, **named)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, usual in _LOGGED.items():
            metrics[usual] += metrics.pop(name)
        return outcome


@dataclasses.dataclass(frozen=True, slots=True)
class _Scored:
    """A classifier for one call of `compute_loss`, with compact batches where they are possible."""

    trainer: Trainer
    model: Any

    def __call__(self, **inputs: Any) -> Any:
        trainer = self.trainer
        compact = compact_forward(trainer)
        if compact is not None:
            trainer.scored_model.training = trainer.model.training
            head = getattr(trainer.model.get_base_model(), HEAD)
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            with trainer.accelerator.autocast():
                rewards = rewards_of_batch(compact, head, ids, mask, trainer.pad)
            if rewards is not None:
                return SequenceClassifierOutputWithPast(logits=rewards[:, None])
        return self.model(**inputs)
