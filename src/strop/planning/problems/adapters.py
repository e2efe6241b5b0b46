"""What is wrong with the settings of an adapter."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from strop.planning import rewards
from strop.planning.problems.methods import IMITATING

if TYPE_CHECKING:
    from strop.planning.settings import Settings

ALL_LINEAR = "all-linear"
"""All linear layers but the one that gives the vocabulary's scores."""

Start = Literal[
    "zero",
    "gaussian",
    "orthogonal",
    "pissa",
    "pissa_niter_16",
    "olora",
    "lora_ga",
    "eva",
    "quantization_error",
]
"""Where an adapter starts."""


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with the kind of adapter and with the layers that get one."""
    yield from _kind_problems(settings)
    yield from _full_problems(settings)
    yield from _embedding_problems(settings)
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
    if (
        settings.lora_init in ("pissa", "pissa_niter_16", "olora", "lora_ga")
        and settings.weight_decay
    ):
        yield (
            f"lora_init {settings.lora_init} holds a part of the weights in the adapter, which "
            "weight_decay would take away; leave one of them out"
        )
    if settings.lora_init == "lora_ga" and settings.method not in ("auto", *IMITATING):
        yield (
            f"lora_init lora_ga begins at the gradient of answers that are imitated (methods "
            f"{', '.join(IMITATING)}), which {settings.method} has none of; pissa or eva suit it"
        )
    if settings.train_embeddings and settings.method == "reward":
        yield "train_embeddings trains embeddings and head to write, which method reward does not do"
    if settings.continue_from is None:
        return
    if settings.method == "reward":
        yield "continue_from begins with an adapter without a head, which method reward needs"
    by_reference = settings.method in ("dpo", "ipo", "kto")
    if by_reference or (settings.method in rewards.REINFORCED and settings.beta > 0):
        yield (
            f"continue_from with method {settings.method} would compare with the model beneath the "
            "adapter; merge it first (strop export RUN --to merged) and give that as model"
        )
    if settings.lora_init != "zero":
        yield "lora_init has no effect with continue_from; leave one of them out"


FULL_METHODS = ("auto", "sft", "text", "orpo", "simpo")
"""Methods that train all weights, or embeddings whole; the others compare with another model."""
_OF_ADAPTERS = (
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "loraplus_lr_ratio",
    "continue_from",
)


def _full_problems(settings: "Settings") -> Iterator[str]:
    for pattern in settings.frozen:
        try:
            re.compile(pattern)
        except re.error as e:
            yield f"freeze has {pattern!r}, which is no regular expression: {e}"
    if settings.adapter == "lora":
        if settings.frozen:
            yield (
                "freeze is of adapter none; an adapter leaves all weights alone, and target_modules says "
                "which layers get one"
            )
        return
    if settings.bits == 4:
        yield (
            "bits is 4 and adapter none, which trains the weights themselves; take bits 32, or 16 "
            "with less memory, or an adapter on the 4-bit weights"
        )
    if settings.method not in FULL_METHODS:
        yield (
            f"adapter none is of methods {', '.join(FULL_METHODS[1:])}; {settings.method} compares with "
            "the first model or a teacher, and trains an adapter: leave adapter out"
        )
    given = [name for name in _OF_ADAPTERS if getattr(settings, name)]
    if given or settings.lora_init != "zero":
        names = ", ".join([*given, *(["lora_init"] if settings.lora_init != "zero" else [])])
        yield f"{names} and adapter none exclude one another; leave one of them out"


def _embedding_problems(settings: "Settings") -> Iterator[str]:
    rate, trained = settings.embedding_learning_rate, settings.train_embeddings
    if rate is not None and not rate > 0:
        yield f"embedding_learning_rate is {rate}; it must be above 0"
    if rate is not None and not trained and settings.adapter == "lora":
        yield (
            "embedding_learning_rate is given, and embeddings are not trained; add --train-embeddings true "
            "or leave it out"
        )
    if rate is not None and settings.loraplus_lr_ratio is not None:
        yield "embedding_learning_rate and loraplus_lr_ratio exclude one another; leave one out"
    if settings.add_tokens is not None and not trained and settings.adapter == "lora":
        yield (
            "add_tokens adds tokens whose embeddings must be trained; add --train-embeddings true, or "
            "--adapter none"
        )
    if not trained:
        return
    if settings.adapter == "none":
        yield "train_embeddings has no effect with adapter none, which trains all; leave it out"
    if settings.continue_from is not None:
        yield "train_embeddings and continue_from exclude one another; leave one of them out"
    if settings.method not in FULL_METHODS:
        yield f"train_embeddings is of methods {', '.join(FULL_METHODS[1:])}; leave it out"


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
