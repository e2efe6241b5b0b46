"""A judge model at an OpenAI-compatible address, which compares two answers in both orders."""

import dataclasses
from collections.abc import Sequence

import torch

from strop.core.env import judge_key
from strop.core.progress import Progress, silent
from strop.data.rows import Fault
from strop.evaluation.answers.named import Answered
from strop.evaluation.answers.remote import RemoteModel, UnreachableError
from strop.metrics.intervals import Scores, ratio

_PROMPT = """Two assistants answered a request. Decide which answer is better.

Request:
{request}
{reference}
Answer A:
{first}

Answer B:
{second}

Reply with one letter alone: A, B, or T if both are equally good."""
_VERDICTS = {"A": 0.0, "B": 1.0, "T": 0.5}


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """A model that compares answers."""

    url: str
    """Address, such as `http://localhost:8080/v1`."""
    model: str | None = None
    """Its name there; None takes the first that the address lists."""
    timeout: float = 60.0
    """Seconds for one verdict."""

    def __post_init__(self) -> None:
        """Check the address.

        Raises:
            ConfigError: it is no address of a web server.
        """
        self._remote()

    def _remote(self) -> RemoteModel:
        return RemoteModel(self.url, self.model, judge_key(), self.timeout, "judge")

    def prefer(
        self,
        first: Sequence[Answered],
        second: Sequence[Answered],
        requests: Sequence[str],
        progress: Progress = silent,
    ) -> tuple[Scores | None, list[Fault]]:
        """Return for each row 1 where the second answer is better in both orders, 0 where the first.

        Verdicts that differ by order, and ties, are 0.5. Rows without a verdict are left out and
        named; after an address that cannot be reached no further row is tried.
        """
        values: list[float] = []
        places: list[int] = []
        faults: list[Fault] = []
        remote = self._remote()
        for done, (one, other, request) in enumerate(zip(first, second, requests, strict=True)):
            progress("judging", done, len(first))
            try:
                verdicts = [
                    self._verdict(remote, request, one.reference, one.answer, other.answer),
                    1 - self._verdict(remote, request, one.reference, other.answer, one.answer),
                ]
            except UnreachableError as e:
                lines = [row.line for row in first[done:]]
                faults += [Fault(line, f"the judge at {self.url} {e}") for line in lines]
                break
            except ValueError as e:
                faults.append(Fault(one.line, f"the judge {e}"))
                continue
            values.append(sum(verdicts) / 2 if verdicts[0] == verdicts[1] else 0.5)
            places.append(one.place)
        if not values:
            return None, faults
        sums = torch.tensor([[value, 1.0] for value in values], dtype=torch.float64)
        return Scores(sums, ratio, share=True, rows=tuple(places)), faults

    def _verdict(
        self, remote: RemoteModel, request: str, reference: str | None, first: str, second: str
    ) -> float:
        expected = "" if reference is None else f"\nA right answer:\n{reference}\n"
        content = _PROMPT.format(request=request, reference=expected, first=first, second=second)
        verdict = remote.reply([{"role": "user", "content": content}], max_tokens=8)
        letter = verdict.strip().strip("*.()[]\"' ")[:1].upper()
        rest = verdict.strip().strip("*.()[]\"' ")[1:2]
        if letter not in _VERDICTS or rest.isalnum():
            raise ValueError(f"answers {verdict[:60]!r}, neither A, B nor T")
        return _VERDICTS[letter]
