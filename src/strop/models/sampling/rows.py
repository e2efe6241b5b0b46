"""Rows of a batch that is sampled: each prompt with what was chosen after it so far."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from strop.core.errors import ConfigError
from strop.core.tokens import context_length
from strop.models.sampling.settings import Sampling
from strop.models.sampling.text import Prompt, prompt_ids, text_of

_OVERLAP = 16
"""Tokens before a stop text's own in which it is looked for: some tokens have no text of their own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one prompt."""

    text: str
    """Without special tokens and what ended it."""
    ids: list[int]
    """Tokens that were chosen, the one that ended the answer among them."""
    log_probs: list[float]
    """Of each chosen token, by the model's own distribution: temperature 1, all tokens."""
    finish_reason: Literal["stop", "length"]
    """Whether an end token or a stop text ended it, or the number of tokens."""


@dataclass(slots=True, eq=False)
class Row:
    """One prompt and its answer so far."""

    index: int
    prompt: tuple[int, ...]
    settings: Sampling
    ends: frozenset[int]
    most: int
    """Tokens that fit: `max_new_tokens`, or what the context leaves."""
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    def take(self, token: int, log_prob: float, tokenizer: Any) -> None:
        """Add a chosen token, and end the answer where it ends."""
        self.ids.append(token)
        self.log_probs.append(log_prob)
        if token in self.ends or (self.settings.stop and self._has_stop(tokenizer)):
            self.finish_reason = "stop"
        elif len(self.ids) >= self.most:
            self.finish_reason = "length"

    def answer(self, tokenizer: Any) -> Answer:
        """Return the finished answer."""
        assert self.finish_reason is not None
        ended = bool(self.ids) and self.ids[-1] in self.ends
        text = text_of(tokenizer, self.ids[:-1] if ended else self.ids)
        cuts = [at for stop in self.settings.stop if (at := text.find(stop)) >= 0]
        return Answer(
            text[: min(cuts, default=len(text))], self.ids, self.log_probs, self.finish_reason
        )

    def _has_stop(self, tokenizer: Any) -> bool:
        longest = max(map(len, self.settings.stop))
        tail = text_of(tokenizer, self.ids[-longest - _OVERLAP :])
        return any(stop in tail for stop in self.settings.stop)


def rows_of(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    settings: Sequence[Sampling],
    seeds: Sequence[int],
    ends: frozenset[int],
) -> list[Row]:
    """Return the rows of some prompts.

    Raises:
        ConfigError: a prompt is empty, longer than the context, or has a token that the model has
            not; or a stop id is none of the model's. All faults at once.
    """
    ids = [tuple(prompt_ids(tokenizer, prompt)) for prompt in prompts]
    room = context_length(model.config)
    V = model.get_input_embeddings().weight.shape[0]
    faults = []
    for index, (prompt, wishes) in enumerate(zip(ids, settings, strict=True)):
        where = f"prompt {index}" if len(ids) > 1 else "the prompt"
        if room is not None and len(prompt) >= room:
            faults.append(f"{where} has {len(prompt)} tokens and the model takes {room}")
        outside = [i for i in prompt if not 0 <= i < V]
        if outside:
            faults.append(
                f"{where} has the token id {outside[0]}; the model has tokens 0 to {V - 1}"
            )
        if wrong := [i for i in wishes.stop_ids if not 0 <= i < V]:
            faults.append(f"stop_ids has {wrong[0]}; the model has tokens 0 to {V - 1}")
    if faults:
        raise ConfigError("; ".join(dict.fromkeys(faults)))
    return [
        Row(
            index,
            prompt,
            wishes,
            ends | set(wishes.stop_ids),
            min(wishes.max_new_tokens, (room or sys.maxsize) - len(prompt)),
            torch.Generator().manual_seed(seed),
        )
        for index, (prompt, wishes, seed) in enumerate(zip(ids, settings, seeds, strict=True))
    ]
