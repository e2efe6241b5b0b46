"""How a run went by its log: losses at first and last, and whether it diverged."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strop.core.errors import spelt
from strop.runs.loss_curve import smoothed

WORSE = 0.1
"""Rise of the held-out loss over that before training, as a share of it and at least of 1 nat, from
which a run counts as diverged; only from `LOST` times the loss before training if the loss on what it
was trained on fell, for then it is overfitted (`strop.runs.diagnosis`)."""
LOST = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Losses of a run, and what is wrong with them."""

    steps: int
    """Step of the last loss."""
    first_loss: float | None
    """Loss of the first step."""
    mean_loss: float | None
    """Mean loss of the last steps, each counting 0.9 times the one after it."""
    eval_loss_before: float | None
    eval_loss_after: float | None
    """Of the step whose adapter the run has."""
    diverged: str
    """A sentence with the remedy; empty if the run did not diverge."""
    preferred: tuple[float, float] | None = None
    """Of held-out pairs of answers at last: the share in which the chosen answer leads the rejected
    one, seen from the model before, and the mean lead."""
    rewards: tuple[float, float] | None = None
    """Reward of sampled answers in the first step, and its mean in the last steps."""
    eval_rewards: tuple[float, float] | None = None
    """Reward of answers to held-out prompts before training and at last."""

    def sentences(self) -> list[str]:
        """Return what became of the losses, a sentence each."""
        lines = []
        if self.rewards is not None:
            lines.append(
                f"reward of drawn answers {self.rewards[0]:.3f} at step 1, mean of the last steps "
                f"{self.rewards[1]:.3f} at step {self.steps:,}"
            )
            if self.eval_rewards is not None:
                before, after = self.eval_rewards
                lines.append(
                    f"reward of answers to held-out prompts {before:.3f} before training, {after:.3f} "
                    "after it"
                )
            return [*lines, *filter(None, (self.diverged,))]
        if self.mean_loss is not None:
            lines.append(
                f"loss on the training rows {self.first_loss:.3f} at step 1, mean of the last steps "
                f"{self.mean_loss:.3f} at step {self.steps:,}"
            )
        if self.eval_loss_before is not None and self.eval_loss_after is not None:
            lines.append(
                f"loss on the held-out rows {self.eval_loss_before:.3f} before training, "
                f"{self.eval_loss_after:.3f} after it: {self._change()}"
            )
        if self.preferred is not None:
            share, margin = self.preferred
            lines.append(
                f"of the held-out pairs {share:.0%} now lean to the chosen answer, by {margin:+.3f} "
                "on average (0 before training)"
            )
        return [*lines, *filter(None, (self.diverged,))]

    def _change(self) -> str:
        assert self.eval_loss_before is not None
        assert self.eval_loss_after is not None
        if round(self.eval_loss_before, 3) == round(self.eval_loss_after, 3):
            return "no change"
        return "better" if self.eval_loss_after < self.eval_loss_before else "worse"


def outcome(log: Iterable[Mapping[str, Any]], record: Mapping[str, Any]) -> Outcome:
    """Return how a run went.

    Args:
        log: lines of log.jsonl.
        record: content of run.json.
    """
    lines = list(log)
    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    held_out = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    first = held_out[0] if held_out and lines[0].get("step") == 0 else None
    best = record.get("best") or {}
    last = best.get("held_out_loss", held_out[-1] if len(held_out) > 1 else None)
    against_first = record["settings"].get("method") in ("dpo", "ipo")
    pairs = [line for line in lines if against_first and "held_out_reward_margin" in line]
    drawn = [line["held_out_reward"] for line in lines if "held_out_reward" in line]
    means = [mean for _, mean in smoothed(trained) if math.isfinite(mean)]
    return Outcome(
        steps=trained[-1][0] if trained else 0,
        first_loss=trained[0][1] if trained else None,
        mean_loss=means[-1] if means else None,
        eval_loss_before=first,
        eval_loss_after=last if first is not None else None,
        preferred=(
            (pairs[-1]["held_out_reward_accuracy"], pairs[-1]["held_out_reward_margin"])
            if len(pairs) > 1
            else None
        ),
        rewards=_rewards(lines),
        eval_rewards=((drawn[0], drawn[-1]) if len(drawn) > 1 and first is not None else None),
        diverged=_divergence(
            trained, means[-1] if means else math.inf, first, last, record["settings"]
        ),
    )


def _rewards(lines: list[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Return the first reward of a run that learns from rewards, and the mean of its last ones."""
    earned = [(line["step"], line["reward"]) for line in lines if "reward" in line]
    return (earned[0][1], [mean for _, mean in smoothed(earned)][-1]) if earned else None


def _divergence(
    trained: list[tuple[int, float]],
    mean: float,
    first: float | None,
    last: float | None,
    settings: Mapping[str, Any],
) -> str:
    """Return what is wrong with losses that diverged, else nothing."""
    step, loss = trained[-1] if trained else (0, 0.0)
    if not math.isfinite(loss):
        return f"the run diverged, the loss is {loss} at step {step:,}; {_remedy(settings, 10)}"
    if first is None or last is None or not math.isfinite(first):
        return ""
    if math.isfinite(last) and last - first <= WORSE * max(1.0, first):
        return ""
    what = f"the run diverged, the loss on the held-out rows rose from {first:.3f} to {last:.3f}"
    if mean >= trained[0][1]:
        return f"{what}; {_remedy(settings, 10)}"
    if last < LOST * max(1.0, first):
        return ""
    return (
        f"{what} while that on the training rows fell; train fewer epochs, keep "
        f"the best evaluation ({spelt('load_best_model_at_end', True)}), or {_remedy(settings, 3)}"
    )


def _remedy(settings: Mapping[str, Any], factor: int) -> str:
    lower = float(f"{settings['learning_rate'] / factor:.2g}")
    share = {3: "a third", 10: "a tenth"}[factor]
    return f"start again with a lower learning_rate, {share}: {spelt('learning_rate', lower)}"
