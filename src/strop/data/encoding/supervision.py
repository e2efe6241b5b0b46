"""Supervision: which of the model's words carry loss."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Supervision:
    """Parts of the answers in a conversation that are supervised."""

    answers: Literal["all", "last"] = "all"
    """Every answer of a conversation, or only its last."""
    end_token: bool = True
    """True if the token that ends an answer is supervised, so that the model learns to stop."""
    reasoning: bool = True
    """True if the reasoning before an answer is supervised."""


EVERYTHING = Supervision()
