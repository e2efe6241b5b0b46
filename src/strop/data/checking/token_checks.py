"""Checks of token ids: lengths, limits, begin and end tokens, fit of the template."""

import itertools
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from strop.core.tokens import IGNORE_INDEX
from strop.data.checking.report import Finding, Lengths, excerpt, finding
from strop.data.checking.turn_checks import is_prompt_only
from strop.data.encoding.encode import encoded
from strop.data.encoding.length import Fit
from strop.data.encoding.parts import LEFT_OUT
from strop.data.encoding.prepared_tokenizer import prepare, tokenizer_name
from strop.data.encoding.supervision import Supervision
from strop.data.encoding.templates import family_of
from strop.data.message_text import full_text
from strop.data.rows import Example, Fault, Row
from strop.data.token_windows import encode_text

_VERIFIED = 64
_FAULTS = {"no_loss": "no_supervised_token", "endless_word": "endless_word"}
"""Finding of each kind of fault; others are refusals of the template."""
_MARK = re.compile(r"<\|[\w▁ -]+\|>|\[/?[A-Z_]{4,}\]|<(?:start|end)_of_turn>|<｜[^｜<>]+｜>")


class TokenCheck:
    """Encodes every row as training would, and collects findings and lengths."""

    def __init__(self, tokenizer: Any, max_length: int | None, supervision: Supervision) -> None:
        self.tokenizer = tokenizer
        self.supervision = supervision
        self.prepared = prepare(tokenizer)
        self.fit = Fit(max_length)
        self.counts = array("I")
        self.supervised = 0
        self.cut = 0
        self.unusable: list[int] = []

    def run(self, rows: list[Row], progress: Callable[[int], None]) -> list[Finding]:
        """Encode the rows and return the findings; `progress` is called with the rows done."""
        lines: dict[str, list[int]] = defaultdict(list)
        faults: dict[tuple[str, str], list[int]] = defaultdict(list)
        examples = encoded(rows, self.tokenizer, self.supervision, verified=_VERIFIED)
        marks: dict[str, tuple[list[int], str]] = {}
        for done, (row, whole) in enumerate(zip(rows, examples, strict=True), 1):
            fitted = whole if isinstance(whole, Fault) else self.fit.examples(whole)
            if isinstance(fitted, Fault):
                if fitted.kind == "no_loss" and is_prompt_only(row):
                    self.counts.append(self._prompt_length(row))
                else:
                    faults[fitted.kind, fitted.reason].append(row.line)
                    self.unusable.append(row.line)
            elif isinstance(whole, Example):
                divided = len(fitted) > 1
                for kind in self._kinds(whole if divided else fitted[0], divided=divided):
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

    def _prompt_length(self, row: Row) -> int:
        """Return the number of tokens of a row without an answer, as the prompt for one."""
        messages = row.messages or []
        text = self.prepared.renderer(row.tools).prompt(messages, len(messages), row.tools)
        return len(encode_text(self.prepared.backend, text))

    def _kinds(self, example: Example, *, divided: bool) -> Iterator[str]:
        """Count the tokens of a row and yield the kinds of its findings."""
        ids, labels = example.ids, example.labels
        yield from example.dropped
        self.counts.append(len(ids))
        self.supervised += len(labels) - labels.count(IGNORE_INDEX)
        self.cut += example.cut
        if example.cut:
            yield "cut" if labels[-1] != IGNORE_INDEX else "context_cut"
        elif divided:
            yield "divided"
        bos, begins = self.tokenizer.bos_token_id, self.prepared.begin_ids
        if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
            yield "double_begin"
        if begins and ids[0] != begins[0]:
            yield "missing_begin"
        last = next((label for label in reversed(labels) if label != IGNORE_INDEX), IGNORE_INDEX)
        if self.supervision.end_token and not example.cut and last not in self.prepared.special_ids:
            yield "missing_end"
        eos = self.prepared.eos
        if eos is not None and len(ids) > 1 and ids[-1] == ids[-2] == eos:
            yield "double_end"

    def lengths(self) -> Lengths | None:
        """Return the lengths of the rows that could be encoded."""
        if not self.counts:
            return None
        return Lengths(sorted(self.counts), self.supervised, self.cut)

    def _of_faults(self, faults: dict[tuple[str, str], list[int]]) -> Iterator[Finding]:
        kinds: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for (kind, reason), lines in faults.items():
            kinds[kind][reason] = lines
        for kind, reasons in kinds.items():
            lines = sorted(itertools.chain.from_iterable(reasons.values()))
            more = f", and {len(reasons) - 1} more reasons" if len(reasons) > 1 else ""
            yield finding(_FAULTS.get(kind, "template_refuses"), lines, next(iter(reasons)) + more)

    def _of_lines(self, lines: dict[str, list[int]]) -> Iterator[Finding]:
        for kind, message in _ABOUT.items():
            if kind in lines:
                count = len(lines[kind])
                rows = "1 row" if count == 1 else f"{count:,} rows"
                text = f"{rows} {message.format(limit=self.fit.max_length)}"
                yield finding(kind, lines[kind], text)

    def _take_marks(self, row: Row, marks: dict[str, tuple[list[int], str]]) -> None:
        renderer = self.prepared.find_renderer(row.tools)
        if renderer is None:
            return
        special = renderer.special
        for text in [full_text(m) for m in row.messages or ()] or [row.text or ""]:
            if match := special.search(text):
                lines, _ = marks.setdefault(match.group(), ([], excerpt(text, *match.span())))
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
        renderer = self.prepared.find_renderer() or self.prepared.find_renderer([])
        if renderer is None:
            return
        if self.tokenizer.chat_template is None:
            yield finding(
                "family_template",
                [],
                f"{tokenizer_name(self.tokenizer)} carries no chat template; that of its family "
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
