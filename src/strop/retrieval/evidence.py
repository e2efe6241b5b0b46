"""What is shown to a model for a question: relevant documents within a time limit, or why none."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strop.core.errors import ConfigError, StropError
from strop.retrieval.index import Hit, Index
from strop.retrieval.prompts import Shown
from strop.retrieval.relevance import THRESHOLD, relevances


@dataclass(frozen=True, slots=True)
class Evidence:
    """Documents for a question, or why there are none."""

    status: str
    """`shown`, `nothing_relevant`, `missing`, `damaged`, `failed` or `slow`."""
    hits: tuple[Hit, ...] = ()
    """Those that are shown, best first."""
    relevance: tuple[float, ...] = ()
    """Of each hit, the probability that it answers the question."""
    best: float | None = None
    """Of the best chunk, shown or not."""
    reason: str | None = None
    seconds: float = 0.0

    @property
    def shown(self) -> list[Shown]:
        """The documents as a prompt has them."""
        return [Shown(hit.text, hit.source, hit.title) for hit in self.hits]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        documents = [
            {"number": n, **hit.as_dict(), "relevance": relevance}
            for n, (hit, relevance) in enumerate(zip(self.hits, self.relevance, strict=True), 1)
        ]
        return {
            "retrieval": {
                "status": self.status,
                "relevance": self.best,
                "reason": self.reason,
                "seconds": round(self.seconds, 4),
            },
            "documents": documents,
        }


@dataclass(frozen=True, slots=True)
class Retrieving:
    """How documents are chosen.

    Attributes:
        k: most documents.
        threshold: least probability that the best one answers; below, none is shown.
        timeout: seconds after which none is shown.
    """

    k: int = 4
    threshold: float = THRESHOLD
    timeout: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: one cannot work.
        """
        faults = []
        if self.k < 1:
            faults.append(f"k is {self.k}; it must be 1 or more")
        if not 0 <= self.threshold <= 1:
            faults.append(f"threshold is {self.threshold}; it must be from 0 to 1")
        if not self.timeout > 0:
            faults.append(f"timeout is {self.timeout}; it must be above 0 seconds")
        if faults:
            raise ConfigError("; ".join(faults))


def evidence(source: Callable[[], Index], question: str, how: Retrieving) -> Evidence:
    """Return what is shown for a question; nothing that is wrong with an index is an error here.

    Where the best chunk's relevance is below the threshold nothing is shown; else the k best of
    those that are at least half as relevant as the threshold asks.

    Args:
        source: returns the index, and may open it first; its time counts.
        question: any text.
        how: see `Retrieving`.
    """
    start = time.monotonic()
    outcome: list[Evidence] = []

    def search() -> None:
        try:
            outcome.append(_retrieved(source, question, how))
        except ConfigError as e:
            outcome.append(Evidence("missing", reason=str(e)))
        except StropError as e:
            outcome.append(Evidence("damaged", reason=str(e)))
        except (OSError, ValueError, MemoryError, LookupError) as e:  # files that vanish meanwhile
            outcome.append(Evidence("failed", reason=f"{type(e).__name__}: {e}"))

    in_time = _within(search, how.timeout)
    seconds = time.monotonic() - start
    if not in_time:
        reason = f"the search took longer than {how.timeout:g} s"
        return Evidence("slow", reason=reason, seconds=seconds)
    (answer,) = outcome
    fields = (answer.status, answer.hits, answer.relevance, answer.best, answer.reason)
    return Evidence(*fields, seconds=seconds)


def _within(work: Callable[[], None], seconds: float) -> bool:
    """Do work in a thread; return whether it was done before the time was over."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _retrieved(source: Callable[[], Index], question: str, how: Retrieving) -> Evidence:
    if not question.strip():
        return Evidence("nothing_relevant", reason="the question is empty")
    index = source()
    hits = index.search(question, how.k)
    note = "; ".join(index.notes) or None
    probabilities = relevances(index, question, hits)
    best = max(probabilities, default=0.0)
    if best < how.threshold:
        reason = f"the best of {len(index):,} chunks answers with a probability of {best:.2f}"
        return Evidence("nothing_relevant", best=best, reason=reason if note is None else note)
    pairs = [(hit, p) for hit, p in zip(hits, probabilities, strict=True) if p >= how.threshold / 2]
    return Evidence("shown", tuple(h for h, _ in pairs), tuple(p for _, p in pairs), best, note)
