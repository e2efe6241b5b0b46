"""A reward that is checked: it throws, hangs or miscounts with its name, the line and the answer."""

import asyncio
import inspect
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.core.errors import ConfigError

RewardFunction = Callable[..., Any]
"""TRL's signature: `f(prompts, completions, completion_ids, **columns)`, one value for each answer."""

_SHOWN = 120


class RewardError(ConfigError):
    """A reward that raised, took too long, or returned what is no reward."""


@dataclass(frozen=True, slots=True)
class RewardCall:
    """Answers of one call, with the line of each prompt and what each earned."""

    lines: list[int]
    answers: list[str]
    values: list[float | None]


class GuardedReward:
    """A reward function as TRL calls it, that returns one finite number or None for each answer.

    A function of one's own runs in a thread: when its time is over, the training ends with a
    checkpoint, and the thread ends with the process. None means that the reward does not apply.

    Args:
        name: as the user wrote it.
        weight: of this reward in the sum of all.
        function: of TRL's signature.
        records: what the data has for each line; its columns are what the function receives.
        timeout: seconds that one call may take.
    """

    def __init__(
        self,
        name: str,
        weight: float,
        function: RewardFunction,
        records: Mapping[int, Mapping[str, Any]],
        timeout: float,
    ) -> None:
        self.__name__ = name
        self.weight = weight
        self._function = function
        self._records = records
        self._columns = sorted({column for record in records.values() for column in record})
        self._timeout = timeout
        self.latest = RewardCall([], [], [])

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[list[int]],
        line: Sequence[int],
        **beside: Any,
    ) -> list[float | None]:
        """Return the reward of each answer.

        Raises:
            RewardError: names what is wrong, with the first line and answer that it concerns.
        """
        rows = [self._records[number] for number in line]
        columns = {name: [row.get(name) for row in rows] for name in self._columns}
        named = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
        values = self._called({**beside, **columns, **named})
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise self._error(f"returns a {type(values).__name__}, not a list of numbers")
        if len(values) != len(completions):
            raise self._error(f"returns {len(values)} values for {len(completions)} answers")
        answers = [completion[0]["content"] for completion in completions]
        numbers = [
            self._number(value, number, answer)
            for value, number, answer in zip(values, line, answers, strict=True)
        ]
        self.latest = RewardCall(list(line), answers, numbers)
        return numbers

    def _number(self, value: Any, line: int, answer: str) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError) as e:
            raise self._error(f"returns {value!r} {_of(line, answer)}, which is no number") from e
        if not math.isfinite(number):
            raise self._error(f"returns {value!r} {_of(line, answer)}, which is no finite number")
        return number

    def _called(self, named: dict[str, Any]) -> Any:
        """Return what the function returns within its time."""
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                value = self._function(**named)
                outcome.put((asyncio.run(value) if inspect.iscoroutine(value) else value, None))
            except BaseException as e:  # noqa: BLE001 - the user's own function may raise anything
                outcome.put((None, e))

        threading.Thread(target=work, daemon=True, name=f"reward {self.__name__}").start()
        try:
            value, error = outcome.get(timeout=self._timeout)
        except queue.Empty:
            raise self._error(
                f"took longer than {self._timeout:g} seconds for {len(named['completions'])} answers; "
                "--reward-timeout allows more"
            ) from None
        if error is not None:
            raise self._error(f"raises {type(error).__name__}: {error}") from error
        return value

    def _error(self, what: str) -> RewardError:
        return RewardError(f"--reward {self.__name__}: it {what}")


def _of(line: int, answer: str) -> str:
    shown = answer if len(answer) <= _SHOWN else answer[:_SHOWN] + "…"
    return f"for the answer {shown!r} to line {line}"
