"""What is wrong with the settings of an adapter."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from strop.planning import rewards

if TYPE_CHECKING:
    from strop.planning.settings import Settings

ALL_LINEAR = "all-linear"
"""All linear layers but the one that gives the vocabulary's scores."""


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with the kind of adapter and with the layers that get one."""
    yield from _kind_problems(settings)
    yield from _module_problems(settings.modules)


def _kind_problems(settings: "Settings") -> Iterator[str]:
    for name in ("rank_pattern", "alpha_pattern"):
        for layer, value in getattr(settings, name).items():
            if not isinstance(value, int | float) or value <= 0:
                yield f"{name} is {value!r} for {layer}; it must be a number above 0"
    if settings.loraplus_lr_ratio is not None and not settings.loraplus_lr_ratio > 0:
        yield f"loraplus_lr_ratio is {settings.loraplus_lr_ratio}; it must be above 0"
    if settings.loraplus_lr_ratio is not None and settings.trainer.get("optim"):
        yield "loraplus_lr_ratio is of AdamW; leave trainer.optim out"
    if settings.continue_from is None:
        return
    by_reference = settings.method in ("dpo", "ipo", "kto")
    if by_reference or (settings.method in rewards.REINFORCED and settings.beta > 0):
        yield (
            f"continue_from with method {settings.method} would compare with the model beneath the "
            "adapter; merge it first (strop export RUN --to merged) and give that as model"
        )
    if settings.lora_init != "zero":
        yield "lora_init has no effect with continue_from; leave one of them out"


def _module_problems(names: str | list[str]) -> Iterator[str]:
    """Yield what is wrong with the names in target_modules, whatever the model."""
    if not names:
        yield "target_modules is empty; name layers such as q_proj, or leave it out"
    if isinstance(names, list) and ALL_LINEAR in names:
        yield f"target_modules has {ALL_LINEAR} beside other names; give it alone"
    if isinstance(names, str):
        try:
            re.compile(names)
        except re.error as e:
            yield f"target_modules is {names!r}, which is no regular expression: {e}"
