"""A reward by a judge model at an OpenAI-compatible address, which grades each answer by a number."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from strop.core.config import Config
from strop.core.env import judge_key
from strop.core.files import reading, yaml_value
from strop.evaluation.answers.remote import RemoteModel, UnreachableError
from strop.metrics.text import number_in
from strop.training.rewards.guarded import RewardFunction

logger = logging.getLogger("strop")

_INSTRUCTION = "Grade how well the answer serves the request: right, complete, clear, not too long."
_PROMPT = """{instruction}

Request:
{request}

Answer:
{answer}

Reply with one number alone, from 0 (worst) to {most:g} (best)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings(Config):
    """What a file such as `judge.yaml` says."""

    url: str
    """Address, such as `http://localhost:8080/v1`; its key is in `STROP_JUDGE_KEY`."""
    model: str | None = None
    """Its name there; without it the first that the address lists."""
    instruction: str = _INSTRUCTION
    """By what answers are graded."""
    most: float = 10.0
    """The best grade, which earns 1."""
    timeout: float = 20.0
    """Seconds for one grade."""
    retries: int = 2
    """Further tries where the address fails, or sends no grade."""
    at_once: int = 4
    """Answers that are graded at the same time."""

    def problems(self) -> Iterator[str]:
        """Yield what cannot work."""
        for name in ("most", "timeout", "at_once"):
            if not getattr(self, name) > 0:
                yield f"{name} is {getattr(self, name)}; it must be above 0"
        if self.retries < 0:
            yield f"retries is {self.retries}; it must not be below 0"


def judged(file: str) -> RewardFunction:
    """Return the reward of a judge: its grade by the best one, from 0 to 1.

    An answer to which it sends no grade, however often, earns None: the reward does not apply. Where the
    address fails each time, the training ends with a checkpoint.

    Raises:
        ConfigError: the file says nothing that works.
    """
    path = Path(file)
    with reading(path, "--reward judge=FILE takes a YAML file"):
        written = yaml_value(path.read_text(encoding="utf-8"))
    settings = JudgeSettings.read(written or {})
    remote = RemoteModel(settings.url, settings.model, judge_key(), settings.timeout, "judge")

    def grade(prompt: Any, answer: str) -> float | None:
        return _grade(remote, settings, _request(prompt), answer)

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float | None]:
        answers = [completion[0]["content"] for completion in completions]
        with ThreadPoolExecutor(settings.at_once) as pool:
            return [*pool.map(grade, prompts, answers)]

    return reward


def _request(prompt: Sequence[dict[str, Any]]) -> str:
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _grade(remote: RemoteModel, settings: JudgeSettings, request: str, answer: str) -> float | None:
    content = _PROMPT.format(
        instruction=settings.instruction, request=request, answer=answer, most=settings.most
    )
    failure: Exception | None = None
    for attempt in range(settings.retries + 1):
        if attempt:
            time.sleep(min(2.0**attempt / 4, settings.timeout))
        try:
            reply = remote.reply([{"role": "user", "content": content}], max_tokens=16)
        except (UnreachableError, ValueError) as e:
            failure = e
            continue
        number = number_in(reply)
        if number is not None and 0 <= number <= settings.most:
            return float(number) / settings.most
        failure = None
        logger.warning("the judge at %s sends %r, no grade", settings.url, reply[:60])
    if failure is not None:
        raise ConnectionError(
            f"the judge at {settings.url} {failure}, in {settings.retries + 1} tries"
        )
    return None
