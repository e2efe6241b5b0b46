"""A judge model at an OpenAI-compatible address, which compares two answers in both orders."""

import dataclasses
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import torch

from strop.core.env import judge_key
from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.data.rows import Fault
from strop.evaluation.answers.named import Answered
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
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise ConfigError(f"--judge is {self.url!r}; write it as http://localhost:8080/v1")

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
        name = self.model
        for done, (one, other, request) in enumerate(zip(first, second, requests, strict=True)):
            progress("judging", done, len(first))
            try:
                name = name or self._first_model()
                verdicts = [
                    self._verdict(name, request, one.reference, one.answer, other.answer),
                    1 - self._verdict(name, request, one.reference, other.answer, one.answer),
                ]
            except _Unreachable as e:
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
        self, model: str, request: str, reference: str | None, first: str, second: str
    ) -> float:
        expected = "" if reference is None else f"\nA right answer:\n{reference}\n"
        content = _PROMPT.format(request=request, reference=expected, first=first, second=second)
        body = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": 8,
        }
        reply = self._call("chat/completions", body)
        try:
            verdict = str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as e:
            raise ValueError(f"sends no answer: {json.dumps(reply)[:120]}") from e
        letter = verdict.strip().strip("*.()[]\"' ")[:1].upper()
        rest = verdict.strip().strip("*.()[]\"' ")[1:2]
        if letter not in _VERDICTS or rest.isalnum():
            raise ValueError(f"answers {verdict[:60]!r}, neither A, B nor T")
        return _VERDICTS[letter]

    def _first_model(self) -> str:
        reply = self._call("models", None)
        try:
            return str(reply["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as e:
            raise _Unreachable("lists no model; name one with --judge-model") from e

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if (key := judge_key()) is not None:
            headers["Authorization"] = f"Bearer {key}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", content, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as e:
            if e.code in (401, 403, 404):
                raise _Unreachable(f"refuses: {e.code} {e.reason}") from e
            raise ValueError(f"fails: {e.code} {e.reason}") from e
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", None) or e
            raise _Unreachable(f"cannot be reached: {reason}") from e
        except ValueError as e:
            raise ValueError(f"sends no JSON: {e}") from e


class _Unreachable(Exception):  # noqa: N818 - a state of the address
    """The judge does not answer at all."""
