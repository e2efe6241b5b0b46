"""Report of a check of data: findings, counts and lengths."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from strop.data.checking.finding_kinds import KINDS, Severity

ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the data to know."""

    kind: str
    """A short name for programs, such as `near_duplicates`."""
    severity: Severity
    """`error`: training on it fails or goes wrong. `warning`: look at it. `info`: good to know."""
    rows: list[int]
    """Lines of the rows that it is about; empty if it is about the whole."""
    message: str
    """Sentence about the finding."""
    remedy: str
    """Action to take."""
    example: str = ""
    """One occurrence."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the rows, in tokens."""

    counts: list[int]
    """Length of each row, ascending."""
    supervised: int
    """Number of supervised tokens of all rows."""
    cut: int
    """Number of tokens beyond the length limit, of all rows."""

    @property
    def total(self) -> int:
        """Number of tokens of an epoch."""
        return sum(self.counts)

    def quantile(self, share: float) -> int:
        """Return the length that this share of the rows does not exceed."""
        return self.counts[min(len(self.counts) - 1, int(share * len(self.counts)))]

    def histogram(self, bins: int = 12) -> list[tuple[int, int, int]]:
        """Return (from, up to, rows) of ranges that begin at round numbers."""
        width = max(1, -(-(self.counts[-1] + 1) // bins))
        unit = 10 ** max(0, len(str(width)) - 2)
        width = -(-width // unit) * unit
        edges = range(0, self.counts[-1] + width, width)
        at = [bisect.bisect_left(self.counts, edge) for edge in (*edges, edges[-1] + width)]
        bars = [(e, e + width, at[i + 1] - at[i]) for i, e in enumerate(edges)]
        return bars[:-1] if bars[-1][2] == 0 and len(bars) > 1 else bars


@dataclass(frozen=True, slots=True)
class Report:
    """Report of a check."""

    source: str
    format: str
    """Format of the columns; empty if no row could be read."""
    total: int
    """Number of rows in the source."""
    usable: int
    """Number of rows that can be trained on."""
    columns: dict[str, int]
    """Number of rows with each column: the evidence for the format."""
    findings: list[Finding]
    lengths: Lengths | None = None
    """Lengths in tokens, if a tokenizer was given."""
    languages: dict[str, int] = field(default_factory=dict)
    """Number of rows in each language or script, where it is clear."""

    @property
    def severe(self) -> bool:
        """True if training on the data would fail or go wrong."""
        return any(f.severity == "error" for f in self.findings)

    def minutes(self, tokens_per_second: float) -> float | None:
        """Return the time of one epoch at a speed, or None without lengths."""
        return None if self.lengths is None else self.lengths.total / tokens_per_second / 60

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        lengths = None
        if self.lengths is not None:
            lengths = {
                "tokens": self.lengths.total,
                "supervised": self.lengths.supervised,
                "cut": self.lengths.cut,
                "median": self.lengths.quantile(0.5),
                "p95": self.lengths.quantile(0.95),
                "longest": self.lengths.counts[-1],
                "histogram": [list(b) for b in self.lengths.histogram()],
            }
        return {
            "source": self.source,
            "format": self.format,
            "rows": self.total,
            "usable": self.usable,
            "columns": self.columns,
            "languages": self.languages,
            "lengths": lengths,
            "findings": [
                {name: getattr(f, name) for name in Finding.__dataclass_fields__}
                for f in self.findings
            ],
        }


def finding(kind: str, rows: list[int], message: str, example: str = "") -> Finding:
    """Return a finding of one of `KINDS`, with its severity and its remedy."""
    known = KINDS[kind]
    return Finding(kind, known.severity, rows, message, known.remedy, example)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by severity, then by number of rows, descending."""
    return sorted(findings, key=lambda f: (ORDER[f.severity], -len(f.rows), f.kind))


def excerpt(text: str, at: int = 0, end: int | None = None) -> str:
    """Return at most a line of `text` around the place `at`."""
    start = max(0, at - 20)
    stop = min(len(text), (end or at) + 40, start + 120)
    cut = " ".join(text[start:stop].split())
    return ("…" if start else "") + cut + ("…" if stop < len(text) else "")


def picture(bins: Sequence[tuple[int, int, int]], *, width: int = 480, row: int = 18) -> str:
    """Return the histogram as SVG."""
    most = max(count for _, _, count in bins)
    parts = []
    for i, (low, high, count) in enumerate(bins):
        y = i * row
        long = round((width - 200) * count / most, 1) if most else 0
        parts.append(
            f'<text x="92" y="{y + 13}" text-anchor="end">{low}–{high - 1}</text>'
            f'<rect x="100" y="{y + 2}" width="{long}" height="{row - 4}" fill="#4c78a8"/>'
            f'<text x="{104 + long}" y="{y + 13}">{count:,}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{row * len(bins)}" '
        'font-family="sans-serif" font-size="11" role="img" aria-label="rows by length in tokens">'
        + "".join(parts)
        + "</svg>"
    )
