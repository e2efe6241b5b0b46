"""Checks what the model will see: lengths, limits, begin and end tokens, the template's fit."""

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from strop.core.tokens import IGNORE_INDEX
from strop.data.checking.report import Finding, Lengths, excerpt, finding
from strop.data.checking.turn_checks import asks_only
from strop.data.encoding.encode import coder, encoded, limited
from strop.data.encoding.parts import LEFT_OUT
from strop.data.encoding.supervision import Supervision
from strop.data.encoding.templates import family_of
from strop.data.encoding.tokenizer_backend import called
from strop.data.message_text import full_text
from strop.data.rows import Example, Fault, Row

_VERIFIED = 64
_MARK = re.compile(r"<\|[\w▁ -]+\|>|\[/?[A-Z_]{4,}\]|<(?:start|end)_of_turn>|<｜[^｜<>]+｜>")


class TokenCheck:
    """Encodes every row as training would, and keeps what is worth knowing."""

    def __init__(self, tokenizer: Any, max_length: int | None, supervision: Supervision) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.supervision = supervision
        self.coder = coder(tokenizer)
        self.counts = array("I")
        self.supervised = 0
        self.cut = 0
        self.unusable: list[int] = []

    def run(self, rows: list[Row], progress: Callable[[int], None]) -> list[Finding]:
        """Encode the rows and return what was found."""
        lines: dict[str, list[int]] = defaultdict(list)
        faults: dict[tuple[str, str], list[int]] = defaultdict(list)
        examples = encoded(rows, self.tokenizer, None, self.supervision, verified=_VERIFIED)
        marks: dict[str, tuple[list[int], str]] = {}
        for done, (row, whole) in enumerate(zip(rows, examples, strict=True), 1):
            made = whole
            if isinstance(whole, Example) and row.messages is not None:
                made = limited(row, whole, self.max_length)
            if isinstance(made, Fault) and made.kind == "no_loss" and asks_only(row):
                self.counts.append(len(self._asked(row)))
            elif isinstance(made, Fault):
                faults[made.kind, made.reason].append(row.line)
                self.unusable.append(row.line)
            else:
                for kind in self._judged(made):
                    lines[kind].append(row.line)
            self._take_marks(row, marks)
            if done % 1000 == 0 or done == len(rows):
                progress(done)
        return [
            *self._of_template(),
            *self._of_faults(faults),
            *self._of_lines(lines),
            *self._of_marks(marks),
        ]

    def _asked(self, row: Row) -> list[int]:
        """Return the tokens of a row that only asks, as a model is given them to answer."""
        renderer, messages = self.coder.renderer(row.tools), row.messages or []
        assert renderer is not None  # without it the row could not be rendered before
        text = renderer.prompt(messages, len(messages), row.tools)
        ids: list[int] = self.coder.fast.encode(text, add_special_tokens=False).ids
        return ids

    def _judged(self, example: Example) -> Iterator[str]:
        ids, labels = example.ids, example.labels
        yield from example.dropped
        self.counts.append(len(ids))
        self.supervised += len(labels) - labels.count(IGNORE_INDEX)
        self.cut += example.cut
        if example.cut:
            yield "cut" if labels[-1] != IGNORE_INDEX else "context_cut"
        elif self.max_length is not None and len(ids) > self.max_length:
            yield "divided"
        bos, begins = self.tokenizer.bos_token_id, self.coder.begin
        if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
            yield "double_begin"
        if begins and ids[0] != begins[0]:
            yield "missing_begin"
        last = next((label for label in reversed(labels) if label != IGNORE_INDEX), IGNORE_INDEX)
        if self.supervision.end_token and not example.cut and last not in self.coder.specials:
            yield "missing_end"
        eos = self.coder.eos
        if eos is not None and len(ids) > 1 and ids[-1] == ids[-2] == eos:
            yield "double_end"

    def lengths(self) -> Lengths | None:
        """Return the lengths of the rows that could be encoded."""
        if not self.counts:
            return None
        return Lengths(sorted(self.counts), self.supervised, self.cut)

    def _of_faults(self, faults: dict[tuple[str, str], list[int]]) -> Iterator[Finding]:
        kinds: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for (kind, reason), found in faults.items():
            kinds[kind][reason] = found
        for kind, reasons in kinds.items():
            lines = sorted(line for found in reasons.values() for line in found)
            more = f", and {len(reasons) - 1} more reasons" if len(reasons) > 1 else ""
            name = "no_supervised_token" if kind == "no_loss" else "template_refuses"
            yield finding(name, lines, next(iter(reasons)) + more)

    def _of_lines(self, lines: dict[str, list[int]]) -> Iterator[Finding]:
        for kind, message in _ABOUT.items():
            if kind in lines:
                count = len(lines[kind])
                rows = "1 row" if count == 1 else f"{count:,} rows"
                text = f"{rows} {message.format(limit=self.max_length)}"
                yield finding(kind, lines[kind], text)

    def _take_marks(self, row: Row, marks: dict[str, tuple[list[int], str]]) -> None:
        renderer = self.coder.renderer(row.tools)
        if renderer is None:
            return
        special = renderer.special
        for text in [full_text(m) for m in row.messages or ()] or [row.text or ""]:
            if found := special.search(text):
                lines, _ = marks.setdefault(found.group(), ([], excerpt(text, *found.span())))
                if not lines or lines[-1] != row.line:
                    lines.append(row.line)

    def _of_marks(self, marks: dict[str, tuple[list[int], str]]) -> Iterator[Finding]:
        for mark, (lines, example) in marks.items():
            count = "1 row" if len(lines) == 1 else f"{len(lines):,} rows"
            yield finding(
                "special_token_in_text",
                lines,
                f"{count} spell the special token {mark} in their text, which becomes the token itself",
                example,
            )

    def _of_template(self) -> Iterator[Finding]:
        renderer = self.coder.renderer() or self.coder.renderer([])
        if renderer is None:
            return
        if self.tokenizer.chat_template is None:
            yield finding(
                "family_template",
                [],
                f"{called(self.tokenizer)} carries no chat template; that of its family "
                f"{family_of(self.tokenizer)} is taken",
            )
        known = self.tokenizer.get_vocab()
        absent = sorted({m for m in _MARK.findall(renderer.text_of_marks) if m not in known})
        if absent:
            yield finding(
                "unfit_template",
                [],
                f"{renderer.title} writes {', '.join(absent)}, which are no tokens of this tokenizer: "
                "the model was not trained with this template",
            )
        elif not renderer.closes:
            yield finding(
                "template_without_end",
                [],
                f"{renderer.title} ends answers with no special token; the tokenizer's end token is "
                "added behind the last one",
            )


_ABOUT = {
    **{kind: f"have {what} that the chat template leaves out" for kind, what in LEFT_OUT.items()},
    "cut": "have an answer that is cut off at {limit} tokens",
    "divided": "are texts longer than {limit} tokens, which are learned in pieces of that length",
    "context_cut": "are cut at {limit} tokens behind what is learned",
    "double_begin": "begin with two begin tokens",
    "missing_begin": "begin without the begin token the tokenizer puts before a text",
    "missing_end": "end their last answer without an end token",
    "double_end": "end with two end tokens",
}
