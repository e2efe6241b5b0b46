"""What a model's answers earn before it is trained."""

import math
from typing import Any

import torch

from strop.models.sampling import Sampling, sample
from strop.planning.settings import Settings
from strop.training.methods.prompts import Prompts
from strop.training.rewards.guarded import GuardedReward
from strop.training.rewards.named import rewards_of


def preview(settings: Settings, model: Any, tokenizer: Any, data: Prompts) -> list[str]:
    """Return sentences on what the model's answers earn before the first step.

    The answers of a few prompts are drawn by seeds of their own; no number of the training is.

    Raises:
        RewardError: a reward raises, hangs, or returns what is no reward.
        ConfigError: a reward cannot be had.
    """
    rewards = rewards_of(settings, data.records)
    G = settings.num_generations
    prompts = data.train[: max(4, settings.batch_size // G)]
    rows = [row for row in prompts for _ in range(G)]
    wishes = Sampling(
        max_new_tokens=settings.max_completion_length, temperature=settings.temperature
    )
    answers = sample(model, tokenizer, [row.ids for row in rows], wishes, seed=settings.seed)
    completions = [[{"role": "assistant", "content": answer.text}] for answer in answers]
    total = torch.zeros(len(rows))
    sentences = []
    for reward in rewards:
        values = reward(
            [row.messages for row in rows],
            completions,
            [answer.ids for answer in answers],
            [row.line for row in rows],
        )
        numbers = torch.tensor([math.nan if value is None else value for value in values])
        total += reward.weight * numbers.nan_to_num()
        sentences.append(_earned(reward, numbers))
    groups = total.view(-1, G)  # [P, G]
    equal = int((groups.max(1).values == groups.min(1).values).sum())
    words = "so a step learns nothing" if equal == len(groups) else "of which nothing is learned"
    if equal:
        sentences.append(
            f"of {len(groups)} prompts {equal} have {G} answers that all earn the same, {words}: an easier "
            "reward, prompts that the model sometimes solves, or more answers help"
        )
    ends = sum(answer.finish_reason == "stop" for answer in answers)
    if 2 * ends < len(answers):
        sentences.append(
            f"{len(answers) - ends} of {len(answers)} answers do not end within max_completion_length "
            f"{settings.max_completion_length}"
        )
    return sentences


def _earned(reward: GuardedReward, numbers: torch.Tensor) -> str:
    given = numbers[~numbers.isnan()]
    name = f"reward {reward.__name__} (weight {reward.weight:g})"
    if not len(given):
        return f"{name}: it applies to none of {len(numbers)} answers before training"
    low, middle, high = given.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return (
        f"{name} of {len(given)} answers before training: mean {given.mean():.3g}, from {given.min():.3g} "
        f"to {given.max():.3g}; a tenth below {low:.3g}, half below {middle:.3g}, a tenth above {high:.3g}"
    )
