"""Supervision: which of the model's words carry loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from strop.data.encoding.render import Rendered, Span
from strop.data.rows import Message


@dataclass(frozen=True, slots=True)
class Supervision:
    """Parts of the answers in a conversation that are supervised."""

    answers: Literal["all", "last"] = "all"
    """Every answer of a conversation, or only its last."""
    end_token: bool = True
    """Whether the token that ends an answer is supervised, so that the model learns to stop."""
    reasoning: bool = True
    """Whether the reasoning before an answer is supervised."""


EVERYTHING = Supervision()


def supervised_messages(
    messages: Sequence[Message], supervision: Supervision, weights: Sequence[float] | None
) -> set[int]:
    """Return the positions of the supervised messages; answers of weight 0 are none."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = answers if supervision.answers == "all" else answers[-1:]
    return {i for i in chosen if weights is None or weights[i] > 0}


def supervised_spans(
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
    if (at := written.rfind("</think>")) >= 0:
        rest = written[at + len("</think>") :]
        return span.start + len(written) - len(rest.lstrip())
    thought = str(messages[span.message].get("reasoning_content") or "").strip()
    if thought and (at := written.find(thought)) >= 0:
        return span.start + at + len(thought)
    return span.start
