"""Methods of training: what each learns from, and the trainer that does it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainingArguments
from trl import DPOConfig, SFTConfig

from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training import dataset
from strop.training.methods import dpo, sft
from strop.training.methods.adapted import adapted


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


_PREFERENCES = Method(
    DPOConfig, dpo.fields, dpo.encode, functools.partial(adapted, dpo.Trainer), 1e-5
)
METHODS = {
    "sft": Method(SFTConfig, sft.fields, dataset.encode, sft.build, Settings().learning_rate),
    "dpo": _PREFERENCES,
    "ipo": _PREFERENCES,
}
"""By name. DPO's learning rate is ten times that of TRL's full training, as adapters need (LoRA
Without Regret, Schulman et al. 2025)."""


def with_method(settings: Settings, explicit: Mapping[str, Any], rows: SplitRows) -> Settings:
    """Return the settings with the method that suits the rows, and its learning rate.

    Rows with a chosen and a rejected answer each are learned by DPO, all others by imitation.

    Args:
        settings: of a new run.
        explicit: those that the caller set.
        rows: that the run trains on.
    """
    name = settings.method
    if name == "auto":
        name = "dpo" if all(row.rejected is not None for row in rows.both) else "sft"
    rate = settings.learning_rate if "learning_rate" in explicit else METHODS[name].learning_rate
    return dataclasses.replace(settings, method=name, learning_rate=rate)
