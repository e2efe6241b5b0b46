"""Faults of training by rewards and preferences."""

import statistics
from collections.abc import Iterator

from strop.core.errors import spelt
from strop.runs.diagnosis.finding import Finding
from strop.runs.diagnosis.history import History
from strop.runs.diagnosis.series import noise, part

ENOUGH = 8
"""Logged rewards from which a trend is looked for."""


def check_collapse(history: History) -> Iterator[Finding]:
    """Yield a finding if rewards, or the lead of chosen answers, fell clearly."""
    for name, what in (("reward", "the reward"), ("reward_margin", "the lead of chosen answers")):
        points = history.points(name)
        values = [value for _, value in points]
        if len(values) < ENOUGH:
            continue
        thirds = len(values) // 3
        best = max(
            statistics.fmean(values[i : i + thirds]) for i in range(len(values) - thirds + 1)
        )
        last = statistics.fmean(values[-thirds:])
        error = noise(values) * (2 / thirds) ** 0.5
        if name == "reward_margin" and last >= 0:
            continue
        if best - last > max(4 * error, 0.3 * (max(values) - min(values)), 0.05):
            since = next(s for s, x in reversed(points) if x >= (best + last) / 2)
            yield Finding(
                "rewards_collapsing",
                since,
                f"{what} fell from {best:.3f} to {last:.3f}, most after step {since:,}",
                "the updates are too large for so noisy a signal, and the model loses what it could",
                f"lower {spelt('learning_rate')} to a tenth, hold the model closer to its start "
                f"(a higher {spelt('beta')}), and keep the checkpoint before step {since:,}",
            )
            return


def check_constant(history: History) -> Iterator[Finding]:
    """Yield a finding if all answers of nearly every group have one reward."""
    deviations = history.values("reward_std")
    if len(deviations) < 3 or sum(x < 1e-6 for x in deviations) < 0.9 * len(deviations):
        return
    rewards = history.values("reward")
    yield Finding(
        "rewards_constant",
        history.points("reward_std")[0][0],
        f"all answers to a prompt have one reward, {statistics.fmean(rewards):.3g} on average",
        "advantages are differences within a group, so without any there is nothing to learn: the "
        "tasks are all too hard or too easy, or the reward does not read the answer",
        "try the reward on some answers by hand, give part of it for part of the task, raise the "
        "temperature, or mix in easier prompts",
    )


def check_cut_answers(history: History) -> Iterator[Finding]:
    """Yield a finding if nearly all drawn answers reach their limit of tokens."""
    shares = history.values("cut_answers")
    if len(shares) < 3:
        return
    late = statistics.fmean(part(shares, 0.5, 1.0))
    if late >= 0.9:
        yield Finding(
            "answers_cut_off",
            history.points("cut_answers")[0][0],
            f"{late:.0%} of the drawn answers reach the limit of tokens",
            "the model does not write the token that ends an answer, or has no room to",
            "raise max_completion_length, or first train on answers with their end token",
        )


def check_drift(history: History) -> Iterator[Finding]:
    """Yield a finding for lengths, entropy and distance of drawn answers that left where they began."""
    for name, gone, evidence, cause, cure in (
        (
            "answer_length",
            lambda first, last: last > 2 * first or last < first / 2,
            "drawn answers have {last:.0f} tokens on average, and had {first:.0f}",
            "the reward is easier to raise by the length of answers than by what they say",
            "reward the length as well, as in --reward length=100:0.2, or read some in drawn_answers.jsonl",
        ),
        (
            "entropy",
            lambda first, last: last < first / 10,
            "the entropy of a drawn token fell from {first:.3g} to {last:.3g} nats",
            "all answers become one, and nothing new is tried",
            f"lower {spelt('learning_rate')} to a tenth, or raise {spelt('beta')}",
        ),
        (
            "kl",
            lambda first, last: last > 1,
            "the model is {last:.2g} nats a token away from the one it started from",
            "the reward outweighs what the model could before",
            f"raise {spelt('beta')}, or lower {spelt('learning_rate')} to a tenth",
        ),
    ):
        points = history.points(name) if history.has_rewards else []
        values = [value for _, value in points]
        if len(values) < 2 * ENOUGH:
            continue
        first, last = statistics.fmean(values[:ENOUGH]), statistics.fmean(values[-ENOUGH:])
        if gone(first, last):
            shown = evidence.format(first=first, last=last)
            yield Finding("answers_drifting", points[-ENOUGH][0], shown, cause, cure)
