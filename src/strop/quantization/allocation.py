"""The choice of a format for each group of matrices: an exact knapsack over bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strop.core.errors import ConfigError

RESOLUTION = 20_000
"""Steps into which the bytes between the cheapest and the dearest choice are divided."""


@dataclass(frozen=True, slots=True)
class Option:
    """A format for a group of matrices, with its price and its harm."""

    format: str
    bytes: int
    kl: float
    """Nats per token that it is expected to cost."""


class Knapsack:
    """All best choices of one option for each group, by the bytes they take together.

        minimise sum_g kl(g, c(g))   subject to   sum_g bytes(g, c(g)) <= budget

    Solved by dynamic programming over bytes in steps that are rounded up, so that no choice
    exceeds its budget (linearity of small errors: arXiv:2411.17525).

    Args:
        options: the options of each group by its name.
    """

    def __init__(self, options: Mapping[str, Sequence[Option]]) -> None:
        self.options = {name: sorted(of, key=lambda o: o.bytes) for name, of in options.items()}
        self.least = sum(of[0].bytes for of in self.options.values())
        self.most = sum(of[-1].bytes for of in self.options.values())
        self.step = max(1, -(-(self.most - self.least) // RESOLUTION))
        steps = -(-(self.most - self.least) // self.step) + len(self.options)
        self._best = np.zeros(steps + 1)  # least KL within so many steps above the cheapest
        self._taken: list[np.ndarray] = []
        for of in self.options.values():
            self._best, taken = _with_group(self._best, of, self.step)
            self._taken.append(taken)

    def within(self, budget: int) -> dict[str, Option]:
        """Return the choice of least KL that takes no more bytes than `budget`.

        Raises:
            ConfigError: even the cheapest choice takes more.
        """
        if budget < self.least:
            raise ConfigError(
                f"the budget of {budget:,} bytes is below the {self.least:,} bytes of the "
                "narrowest formats"
            )
        return self._choice(min((budget - self.least) // self.step, len(self._best) - 1))

    def below(self, kl: float) -> dict[str, Option]:
        """Return the choice of fewest bytes whose KL is expected to be at most `kl`.

        Raises:
            ConfigError: even the dearest choice is expected to cost more.
        """
        enough = np.flatnonzero(self._best <= kl)
        if not len(enough):
            raise ConfigError(
                f"a KL of {kl:g} nats per token is out of reach: the widest formats are expected "
                f"to cost {self._best[-1]:.2g}"
            )
        return self._choice(int(enough[0]))

    def _choice(self, at: int) -> dict[str, Option]:
        chosen = {}
        for (name, of), taken in zip(
            reversed(self.options.items()), reversed(self._taken), strict=True
        ):
            option = of[taken[at]]
            chosen[name] = option
            at -= _steps(option, of, self.step)
        return {name: chosen[name] for name in self.options}


def _steps(option: Option, of: Sequence[Option], step: int) -> int:
    return -(-(option.bytes - of[0].bytes) // step)


def _with_group(best: np.ndarray, of: Sequence[Option], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least KL within each number of steps with one more group, and its options."""
    least = np.full(len(best), np.inf)
    taken = np.zeros(len(best), dtype=np.int8)
    for i, option in enumerate(of):
        shift = _steps(option, of, step)
        if shift >= len(best):
            continue
        sums = np.full(len(best), np.inf)
        sums[shift:] = best[: len(best) - shift] + option.kl
        better = sums < least
        least = np.where(better, sums, least)
        taken[better] = i
    return least, taken
