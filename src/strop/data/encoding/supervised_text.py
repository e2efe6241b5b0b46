"""A row as text, with the characters that are supervised."""

from collections.abc import Sequence
from dataclasses import dataclass

from strop.core.errors import DataError
from strop.data.encoding.parts import REASONING_MARKS, finding_kinds
from strop.data.encoding.prepared_tokenizer import PreparedTokenizer
from strop.data.encoding.render import Rendered, Renderer, Span
from strop.data.encoding.supervision import Supervision
from strop.data.rows import Message, Row


@dataclass(frozen=True, slots=True)
class SupervisedText:
    """A row as text, with the characters that are supervised."""

    text: str
    spans: list[Span]
    """The supervised characters."""
    ends: bool
    """True if an end token is to be added."""
    begin_ids: list[int]
    """Token ids that precede those of the text."""
    dropped: tuple[str, ...] = ()
    """Kinds of the findings about parts that the template leaves out."""


def supervised_text(
    row: Row, prepared: PreparedTokenizer, supervision: Supervision, *, verify: bool
) -> SupervisedText:
    """Return the text of a row and the characters of it that are supervised.

    Args:
        row: the row.
        prepared: the tokenizer.
        supervision: which parts of the answers are supervised.
        verify: whether to compare the text with what the tokenizer itself renders.

    Raises:
        DataError: there is no template, it refuses the row or leaves out an answer, or the texts
            differ.
    """
    if row.messages is None:
        return _plain_text(row.text or "", prepared)
    renderer = prepared.renderer(row.tools)
    rendered = renderer.render(row.messages, tools=row.tools)
    if verify:
        _verify(rendered, renderer)
    chosen = _supervised_messages(row.messages, supervision, row.weights)
    for message, reason in rendered.silent.items():
        if message in chosen:
            remedy = "take a model whose template writes it, or put it into the text"
            raise DataError(f"{reason}; {remedy}")
    spans = _supervised_spans(rendered, row.messages, supervision, chosen)
    ends = not rendered.closed and len(row.messages) - 1 in {s.message for s in rendered.spans}
    dropped = finding_kinds(rendered.form.unwritten, chosen)
    return SupervisedText(rendered.text, spans, ends and supervision.end_token, [], dropped)


def _plain_text(text: str, prepared: PreparedTokenizer) -> SupervisedText:
    bos = prepared.tokenizer.bos_token
    has_begin = bool(prepared.begin_ids) and text.startswith(bos)
    start = len(bos) if has_begin else 0
    begin_ids = [] if has_begin else prepared.begin_ids
    return SupervisedText(text, [Span(start, len(text), 0)], True, begin_ids)


def _verify(rendered: Rendered, renderer: Renderer) -> None:
    """Raise DataError unless the template gives the same text when its parts are not tracked."""
    if renderer.plain(rendered.form.messages, rendered.form.tools) != rendered.text:
        raise DataError(
            f"{renderer.title} gives another text when its parts are tracked, so no exact "
            "spans can be told; it may depend on chance"
        )


def _supervised_messages(
    messages: Sequence[Message], supervision: Supervision, weights: Sequence[float] | None
) -> set[int]:
    """Return the positions of the supervised messages; answers of weight 0 are none."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = answers if supervision.answers == "all" else answers[-1:]
    return {i for i in chosen if weights is None or weights[i] > 0}


def _supervised_spans(
    rendered: Rendered, messages: Sequence[Message], supervision: Supervision, chosen: set[int]
) -> list[Span]:
    """Return the spans of the rendered conversation that are supervised.

    Args:
        rendered: the conversation.
        messages: its messages.
        supervision: which parts of the answers are supervised.
        chosen: the positions of the supervised messages.
    """
    spans = []
    for span in rendered.spans:
        if span.message not in chosen:
            continue
        start, end = span.start, span.end if supervision.end_token else span.body
        if not supervision.reasoning:
            start = _behind_reasoning(rendered.text, span, messages)
        if start < end:
            spans.append(Span(start, end, span.message, min(span.body, end)))
    return spans


def _behind_reasoning(text: str, span: Span, messages: Sequence[Message]) -> int:
    """Return where the answer behind its reasoning begins in a span."""
    written = text[span.start : span.body]
    closed = (written.rfind(close) + len(close) for _, close in REASONING_MARKS if close in written)
    if end := max(closed, default=0):
        return span.start + len(written) - len(written[end:].lstrip())
    thought = str(messages[span.message].get("reasoning_content") or "").strip()
    if thought and (at := written.find(thought)) >= 0:
        return span.start + at + len(thought)
    return span.start
