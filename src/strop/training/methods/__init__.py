"""Methods of training: what each learns from, and the trainer that does it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig

from strop.core.errors import ConfigError
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training import dataset
from strop.training.methods import (
    distill,
    dpo,
    kto,
    prompts,
    reference_free,
    reinforced,
    reward,
    sft,
)
from strop.training.methods.adapted import adapted
from strop.training.methods.preview import preview
from strop.training.text.encode import encode as encode_texts


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One way of training."""

    config: type[TrainingArguments]
    """Class of the trainer's arguments."""
    fields: Callable[[Settings], dict[str, Any]]
    """Returns what the class is given besides the settings."""
    encode: Callable[..., Any]
    """Returns split rows as the tokens that the trainer takes."""
    build: Callable[..., Any]
    """Returns the trainer."""
    learning_rate: float
    """Of an adapter, where the settings have none."""
    beta: float = Settings().beta
    """Where the settings have none."""
    whole: bool = False
    """True if the loss compares rows of a batch, so that a batch cannot be divided."""
    outline: Callable[..., Any] | None = None
    """As `encode`, for a plan, where that would compute; None stands for `encode`."""
    preview: Callable[..., list[str]] | None = None
    """Returns sentences on what the model does before a new run."""


_PREFERENCES = Method(
    DPOConfig, dpo.fields, dpo.encode, functools.partial(adapted, dpo.Trainer), 1e-5
)
_WITHOUT_REFERENCE = (reference_free.fields, reference_free.encode, reference_free.build)
_SAMPLED = (reinforced.fields, prompts.encode, reinforced.build)
METHODS = {
    "sft": Method(SFTConfig, sft.fields, dataset.encode, sft.build, Settings().learning_rate),
    "text": Method(SFTConfig, sft.text_fields, encode_texts, sft.build, Settings().learning_rate),
    "dpo": _PREFERENCES,
    "ipo": _PREFERENCES,
    "kto": Method(KTOConfig, kto.fields, kto.encode, kto.build, 1e-5, whole=True),
    "orpo": Method(reference_free.CONFIGS["orpo"], *_WITHOUT_REFERENCE, 5e-5, whole=True),
    "distill": Method(
        distill.CONFIG,
        distill.fields,
        distill.encode,
        distill.build,
        2e-4,
        beta=0.5,
        outline=dataset.encode,
    ),
    "reward": Method(RewardConfig, reward.fields, reward.encode, reward.build, 1e-4),
    "grpo": Method(GRPOConfig, *_SAMPLED, 1e-5, 0.0, whole=True, preview=preview),
    "rloo": Method(RLOOConfig, *_SAMPLED, 1e-5, 0.05, whole=True, preview=preview),
    "simpo": Method(
        reference_free.CONFIGS["simpo"], *_WITHOUT_REFERENCE, 1e-5, beta=2.0, whole=True
    ),
}
"""By name. Learning rates are ten times those of full training, as adapters need (LoRA Without Regret,
Schulman et al. 2025): TRL's of DPO, KTO, GRPO and RLOO, 5e-6 of ORPO's and 1e-6 of SimPO's paper. Betas
are TRL's, distill's GKDConfig's; SimPO's, and its gamma of half that, are its paper's."""


def with_method(settings: Settings, explicit: Mapping[str, Any], rows: SplitRows) -> Settings:
    """Return the settings with the method that suits the rows, and what it sets by itself.

    Rows with a chosen and a rejected answer each are learned by DPO, answers that are marked as
    desirable or not by KTO, prompts with a reward by GRPO, plain texts whole, all others by imitation.

    Args:
        settings: of a new run.
        explicit: those that the caller set.
        rows: that the run trains on.

    Raises:
        ConfigError: other settings do not suit the method.
    """
    name = settings.method
    if name == "auto":
        pairs = all(row.rejected is not None for row in rows.both)
        name = "dpo" if pairs else "kto" if rows.marked else "sft"
        name = "distill" if settings.teacher else name
        name = "grpo" if rows.records else "text" if rows.texts is not None else name
    defaults = {
        n: getattr(METHODS[name], n) for n in ("learning_rate", "beta") if n not in explicit
    }
    chosen = dataclasses.replace(settings, method=name, **defaults)
    if problems := list(chosen.problems()):
        raise ConfigError("\n".join(problems))
    return chosen
