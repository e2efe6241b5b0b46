"""Rewards by name: what the setting `reward` says, with its weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import regex

from strop.core.errors import ConfigError
from strop.core.files import read_json, reading, yaml_value
from strop.evaluation.answers.function import function_of
from strop.evaluation.answers.named import follows, matches
from strop.evaluation.answers.rules import Rules
from strop.metrics import text
from strop.planning.rewards import RewardName, reward_names
from strop.planning.settings import Settings
from strop.runs.reward_model import RewardModel
from strop.runs.run import Run
from strop.training.rewards.guarded import GuardedReward, RewardFunction
from strop.training.rewards.judged import judged
from strop.training.rewards.unit_tests import by_unit_tests


def rewards_of(settings: Settings, records: Mapping[int, Mapping[str, Any]]) -> list[GuardedReward]:
    """Return the rewards that the settings name.

    Args:
        settings: name them, and bound their time.
        records: what the data has for each line.

    Raises:
        ConfigError: one cannot be had; all of them are named.
        MissingPackageError: the package of an environment is not installed.
    """
    rewards, wrong = [], []
    names = reward_names(settings)
    for name in names:
        try:
            function = _function(name)
        except ConfigError as e:
            wrong.append(str(e))
            continue
        rewards.append(
            GuardedReward(name.text, name.weight, function, records, settings.reward_timeout)
        )
    if settings.environment is not None:
        from strop.training.rewards.environment import scored

        function = scored(settings.environment)
        rewards.append(
            GuardedReward(settings.environment, 1.0, function, records, settings.reward_timeout)
        )
    if wrong:
        raise ConfigError("\n".join(wrong))
    return rewards


def _function(name: RewardName) -> RewardFunction:
    """Return the function of a name.

    Raises:
        ConfigError: it cannot be had.
    """
    if name.kind == "file":
        return function_of(name.text, "--reward")[1]
    if name.kind == "run":
        return _scored_by(RewardModel.of(Run.open(name.text)))
    return _READY[name.kind](name.argument)


def _scored_by(model: RewardModel) -> RewardFunction:
    """Return the reward of a model that learned from pairs."""

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        whole = zip(prompts, completions, strict=True)
        return [*model.rewards([[*prompt, *completion] for prompt, completion in whole])]

    return reward


def _beside_reference(measure: Callable[[str, str], float]) -> Callable[[str], RewardFunction]:
    """Return a reward of an answer beside the row's own; None for a row without one."""

    def ready(_: str) -> RewardFunction:
        def reward(completions: Any, answer: Any, **__: Any) -> list[float | None]:
            pairs = zip(_texts(completions), answer, strict=True)
            return [None if right is None else measure(given, right) for given, right in pairs]

        return reward

    return ready


def _alone(measure: Callable[[str], float]) -> RewardFunction:
    def reward(completions: Any, **_: Any) -> list[float | None]:
        return [measure(given) for given in _texts(completions)]

    return reward


def _texts(completions: Any) -> list[str]:
    return [completion[0]["content"] for completion in completions]


def _exact(answer: str, reference: str) -> float:
    """Return 1 if an answer is the row's, or ends in it on a line of its own, else 0."""
    last = answer.strip().rpartition("\n")[2]
    return max(text.exact_match(answer, reference), text.exact_match(last, reference))


def _json_schema(argument: str) -> RewardFunction:
    return _alone(follows(read_json(Path(argument))))


def _length(argument: str) -> RewardFunction:
    most = int(argument)
    return _alone(lambda answer: min(1.0, most / max(1, len(text.words(answer)))))


def _format(argument: str) -> RewardFunction:
    parts = (rf"<{tag}>.*?</{tag}>" for tag in map(regex.escape, argument.split("/")))
    return _alone(matches(r"(?s)^\s*" + r"\s*".join(parts) + r"\s*$"))


def _rules(argument: str) -> RewardFunction:
    path = Path(argument)
    with reading(path, "--reward rules=FILE takes a YAML file"):
        written = yaml_value(path.read_text(encoding="utf-8"))
    checks = Rules.read(written or {}).checks().values()
    return _alone(lambda answer: sum(check(answer) for check in checks) / len(checks))


_READY: dict[str, Callable[[str], RewardFunction]] = {
    "exact": _beside_reference(_exact),
    "number": _beside_reference(text.number),
    "regex": lambda pattern: _alone(matches(pattern)),
    "json_schema": _json_schema,
    "length": _length,
    "format": _format,
    "rules": _rules,
    "unit_tests": by_unit_tests,
    "judge": judged,
}
