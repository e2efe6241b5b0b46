"""How tokens are chosen, and when an answer ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from strop.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one answer; the defaults take the likeliest token each time.

    Where tokens are drawn, the logits pass in this order: repetition penalty, temperature, top-k,
    top-p, min-p; the order and the meaning of each are those of transformers' `generate`.
    """

    max_new_tokens: int = 256
    """The answer stops there at the latest, or where the model's context ends."""
    min_new_tokens: int = 0
    """Tokens that end answers are not chosen before."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn."""
    top_k: int = 0
    """Draw among this many likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw among tokens at least this share as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Logits of tokens of the prompt and the answer are divided by it, or multiplied below zero."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these texts."""
    stop_ids: tuple[int, ...] = ()
    """Ids that end the answer, beside those of the model."""

    def problems(self) -> list[str]:
        """Return what cannot work, an empty list if all can."""
        return [
            f"{name} is {getattr(self, name)}; {rule}"
            for name, fits, rule in (
                ("max_new_tokens", self.max_new_tokens >= 1, "it must be 1 or more"),
                ("min_new_tokens", self.min_new_tokens >= 0, "it must be 0 or more"),
                ("temperature", 0 <= self.temperature < float("inf"), "it must be 0 or more"),
                ("top_k", self.top_k >= 0, "it must be 0 (all tokens) or more"),
                ("top_p", 0 < self.top_p <= 1, "it must be above 0 and at most 1"),
                ("min_p", 0 <= self.min_p <= 1, "it must be from 0 to 1"),
                ("repetition_penalty", self.repetition_penalty > 0, "it must be above 0"),
                ("stop", all(self.stop), "an empty text would end every answer at once"),
            )
            if not fits
        ]


def settings_of_rows(settings: Sampling | Sequence[Sampling], count: int) -> list[Sampling]:
    """Return the settings of each of `count` rows.

    Raises:
        ConfigError: there are not as many settings as rows, or one of them cannot work.
    """
    rows = [settings] * count if isinstance(settings, Sampling) else list(settings)
    if len(rows) != count:
        raise ConfigError(f"there are {len(rows)} settings for {count} prompts; give one for each")
    if faults := list(dict.fromkeys(fault for row in rows for fault in row.problems())):
        raise ConfigError("; ".join(faults))
    return rows
