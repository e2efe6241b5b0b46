"""What an export is asked for, checked before anything heavy is imported."""

from collections.abc import Sequence

from strop.core.errors import ConfigError

TARGETS = ("adapter", "merged", "gguf", "ollama", "bnb")
REWARD_TARGETS = frozenset({"adapter", "merged"})
"""Targets that hold a model which rewards answers."""


def check(targets: Sequence[str], dtype: str | None) -> None:
    """Raise ConfigError if a target or the number format of merged weights is not known."""
    wrong = []
    if not targets:
        wrong.append(f"there is no target; choose from {', '.join(TARGETS)}")
    wrong += [
        f"{target!r} is no target; choose from {', '.join(TARGETS)}"
        for target in targets
        if target not in TARGETS
    ]
    if dtype not in (None, "float32", "bfloat16", "float16"):
        wrong.append(f"dtype is {dtype!r}; choose from float32, bfloat16, float16")
    if wrong:
        raise ConfigError("the export cannot be made:\n  " + "\n  ".join(wrong))
