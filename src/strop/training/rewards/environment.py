"""Tasks of reasoning-gym as data and reward: prompts drawn by the seed, answers scored by the task."""

from typing import Any

import regex

from strop.core.errors import ConfigError, MissingPackageError
from strop.planning.settings import Settings
from strop.training.rewards.guarded import RewardFunction

_ANSWER = regex.compile(r"(?s)<answer>\s*(.*?)\s*</answer>")


def environment_rows(settings: Settings) -> list[dict[str, Any]]:
    """Return the tasks of the environment that a run names, drawn by its seed.

    Raises:
        ConfigError: there is no such environment.
        MissingPackageError: reasoning-gym is not installed.
    """
    tasks = _dataset(str(settings.environment), settings.environment_rows, settings.seed)
    return [
        {"prompt": task["question"], "answer": str(task["answer"]), "entry": task} for task in tasks
    ]


def scored(environment: str) -> RewardFunction:
    """Return the environment's own score of answers, which counts what stands in `<answer>` if there.

    Raises:
        ConfigError: there is no such environment.
        MissingPackageError: reasoning-gym is not installed.
    """
    tasks = _dataset(environment, 1, 0)

    def reward(completions: Any, entry: Any, **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        answers = [match[1] if (match := _ANSWER.search(text)) else text.strip() for text in texts]
        return [
            float(tasks.score_answer(answer=answer, entry=task))
            for answer, task in zip(answers, entry, strict=True)
        ]

    return reward


def _dataset(name: str, size: int, seed: int) -> Any:
    try:
        import reasoning_gym
    except ImportError as e:
        raise MissingPackageError(
            "environment needs reasoning-gym: pip install 'strop[environments]'"
        ) from e
    try:
        return reasoning_gym.create_dataset(name, size=size, seed=seed)
    except ValueError as e:
        raise ConfigError(f"environment is {name!r}: {e}") from e
