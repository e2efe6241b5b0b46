"""What is known of a run before its first step: of the data, the model and the machine."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from strop.models.meta_model import rank_parameters

REPEATED = 0.3
"""Share of the answers' tokens from which on they repeat one another: free text has 0.1 and less."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Numbers that the rules go by."""

    rows: int
    """That are trained on in an epoch."""
    held_out: int
    """Rows on which the loss is measured."""
    tokens: int
    """Of an epoch."""
    supervised_tokens: int
    """Tokens of an epoch that carry loss."""
    repeated: float = 0.0
    """Share of the answers' tokens that stand in earlier answers (`data.repetition`)."""
    method: str
    """Name of the method."""
    family: str
    """transformers' model_type."""
    hidden_size: int
    """Width of the model."""
    rank_parameters: int
    """Weights of an adapter of rank 1 on the layers that get one."""
    memory: int
    """Bytes that the run may take."""
    max_steps: int | None = None
    """Steps that were set by hand."""
    most_epochs: float = math.inf
    """Passes over the data that the time leaves room for."""
    time: str = ""
    """That the run may take, as it was set."""

    @property
    def repeats(self) -> bool:
        """Whether answers are labels, numbers or forms, which are learned longer than free text."""
        return self.repeated >= REPEATED

    @classmethod
    def of(
        cls,
        facts: Mapping[str, Any],
        rows: int,
        model: Any,
        *,
        modules: str | Sequence[str],
        method: str,
        memory: int,
        max_steps: int | None,
    ) -> "Task":
        """Return the numbers of a run.

        Args:
            facts: of the data, as run.json has them.
            rows: that are trained on, long texts divided.
            model: a transformers model without an adapter; its weights are not looked at.
            modules: layers that get an adapter, as PEFT takes them.
            method: that trains.
            memory: bytes that the run may take.
            max_steps: steps that were set by hand.
        """
        config = model.config.get_text_config()
        return cls(
            rows=rows,
            held_out=facts["held_out_rows"],
            tokens=facts["tokens"],
            supervised_tokens=facts["supervised_tokens"],
            repeated=facts.get("repeated_answers", 0.0),
            method=method,
            family=config.model_type,
            hidden_size=model.get_input_embeddings().weight.shape[-1],
            rank_parameters=rank_parameters(model, modules),
            memory=memory,
            max_steps=max_steps,
        )
