"""Checks of turns: order of roles, and the answers of all rows together."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from strop.data.checking.report import Finding, finding
from strop.data.message_text import content_text
from strop.data.rows import Row


def role_problems(row: Row) -> Iterator[str]:
    """Yield the problems with the order of a conversation's roles."""
    roles = [m["role"] for m in row.messages or ()]
    if any(role in ("system", "developer") for role in roles[1:]):
        yield "a system message stands behind the first place"
    turns = [r for r in roles if r not in ("system", "developer")]
    if turns and turns[0] == "assistant":
        yield "an answer stands first"
    for before, after in itertools.pairwise(turns):
        if before == after == "user" or before == after == "assistant":
            yield f"two {before} messages follow each other"
            break
    calls = [bool(m.get("tool_calls")) for m in row.messages or ()]
    if "tool" in roles and not any(calls[: roles.index("tool")]):
        yield "a tool result stands before any tool call"


def is_prompt_only(row: Row) -> bool:
    """Return whether a row is a conversation without an answer."""
    return row.messages is not None and not any(m["role"] == "assistant" for m in row.messages)


@dataclass(slots=True)
class Answers:
    """Answers of all rows, for findings about all of them together."""

    short: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    answered: int = 0
    long: int = 0
    unfinished: list[int] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add the last answer of a row."""
        if not row.messages or row.messages[-1]["role"] != "assistant":
            return
        answer = content_text(row.messages[-1]).strip()
        self.answered += 1
        if len(answer) <= 40 and len(self.short) <= 1000:
            self.short[answer] += 1
            self.lines[answer].append(row.line)
        if len(answer) >= 200:
            self.long += 1
            if answer[-1].isalnum() or answer[-1] in ",;":
                self.unfinished.append(row.line)

    def labels(self) -> Counter[str] | None:
        """Return the answers as labels if they are few and repeat, else None."""
        few = len(self.short) <= max(2, min(50, self.answered // 10))
        if self.answered < 30 or not few or self.short.total() < 0.95 * self.answered:
            return None
        return self.short

    def findings(self) -> Iterator[Finding]:
        """Yield the findings about all answers together."""
        if labels := self.labels():
            yield from self._imbalance(labels)
            yield from self._variants(labels)
        if self.long >= 20 and 0 < len(self.unfinished) < 0.2 * self.long:
            yield finding(
                "unfinished_answers",
                sorted(self.unfinished),
                f"{len(self.unfinished)} long answers end in the middle of a sentence, where most do "
                "not",
            )

    def _imbalance(self, labels: Counter[str]) -> Iterator[Finding]:
        most, least = labels.most_common()[0], labels.most_common()[-1]
        if len(labels) == 1:
            text = f"every answer is {most[0]!r}"
        elif most[1] > 8 * least[1] or most[1] > 0.8 * self.answered:
            shares = ", ".join(f"{n:,} × {label!r}" for label, n in labels.most_common(6))
            text = f"the answers are unevenly spread: {shares}"
        else:
            return
        yield finding(
            "label_imbalance",
            sorted(self.lines[least[0]]) if len(labels) > 1 else [],
            text,
        )

    def _variants(self, labels: Counter[str]) -> Iterator[Finding]:
        same: dict[str, list[str]] = defaultdict(list)
        for label in labels:
            same[label.lower().strip(" .!\"'")].append(label)
        for spellings in same.values():
            if len(spellings) > 1:
                rare = sorted(spellings, key=lambda s: -labels[s])[1:]
                yield finding(
                    "label_variants",
                    sorted(line for label in rare for line in self.lines[label]),
                    "one answer is spelt in several ways: " + ", ".join(map(repr, spellings)),
                )
