"""Which of the model's own words carry loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from strop.data.encoding.render import Rendered, Span
from strop.data.rows import Message


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a model learns of the answers in a conversation."""

    answers: Literal["all", "last"] = "all"
    """Every answer of a conversation, or only its last."""
    end_token: bool = True
    """Whether the token that ends an answer is learned, so that the model learns to stop."""
    reasoning: bool = True
    """Whether the reasoning before an answer is learned."""


EVERYTHING = Supervision()


def taught(
    messages: Sequence[Message], wanted: Supervision, weights: Sequence[float] | None
) -> set[int]:
    """Return the positions of the messages that are to be learned."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = answers if wanted.answers == "all" else answers[-1:]
    return {i for i in chosen if weights is None or weights[i] > 0}


def learned(
    rendered: Rendered,
    messages: Sequence[Message],
    wanted: Supervision,
    weights: Sequence[float] | None,
) -> list[Span]:
    """Return the spans of the rendered conversation that carry loss.

    Args:
        rendered: the conversation.
        messages: its messages.
        wanted: which of the answers' parts carry loss.
        weights: how much each message counts; answers that count 0 are left out.
    """
    chosen = taught(messages, wanted, weights)
    spans = [span for span in rendered.spans if span.message in chosen]
    made = []
    for span in spans:
        start = span.start if wanted.reasoning else _behind_reasoning(rendered.text, span, messages)
        end = span.end if wanted.end_token else span.body
        if start < end:
            made.append(Span(start, end, span.message, min(span.body, end)))
    return made


def _behind_reasoning(text: str, span: Span, messages: Sequence[Message]) -> int:
    """Return where the answer proper begins; the span holds only what the model itself wrote."""
    written = text[span.start : span.body]
    if (at := written.rfind("</think>")) >= 0:
        rest = written[at + len("</think>") :]
        return span.start + len(written) - len(rest.lstrip())
    thought = str(messages[span.message].get("reasoning_content") or "").strip()
    if thought and (at := written.find(thought)) >= 0:
        return span.start + at + len(thought)
    return span.start
