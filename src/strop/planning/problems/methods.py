"""Names of the ways of training, and of those that are alike."""

from typing import Literal

MethodName = Literal[
    "auto",
    "sft",
    "text",
    "dpo",
    "ipo",
    "kto",
    "orpo",
    "simpo",
    "reward",
    "grpo",
    "rloo",
    "distill",
]
"""Ways of training."""

IMITATING = ("sft", "text", "distill")
"""Methods that learn from every supervised token."""
