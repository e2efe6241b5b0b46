"""Turns rows into token ids and labels."""

import concurrent.futures
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError
from strop.core.tokens import IGNORE_INDEX
from strop.data.encoding.parts import kinds_of
from strop.data.encoding.render import Rendered, Renderer, Span, refusals
from strop.data.encoding.supervision import EVERYTHING, Supervision, learned, taught
from strop.data.encoding.templates import template_of, templates_of
from strop.data.encoding.tokenizer_backend import called, private_backend
from strop.data.message_text import content_text
from strop.data.rows import BrokenRowsError, Example, Fault, Row

_BATCH = 256


@dataclass(slots=True)
class Coder:
    """What encoding needs of one tokenizer."""

    fast: Any
    """Its `tokenizers` backend that neither cuts, pads nor moves offsets."""
    renderers: tuple[Renderer | None, Renderer | None]
    """Of its templates without tools and with tools, mostly one and the same."""
    begin: list[int]
    """What the tokenizer puts before a plain text: its begin token, or nothing."""
    eos: int | None
    specials: frozenset[int]

    def renderer(self, tools: Any = None) -> Renderer | None:
        """Return the renderer for conversations that may call `tools`, or None."""
        return self.renderers[tools is not None]


def coder(tokenizer: Any) -> Coder:
    """Return what encoding needs of `tokenizer` as it is now.

    What is kept of earlier calls is kept by everything it was made of, so that any change of a
    tokenizer counts from the next call.

    Raises:
        DataError: it gives no character offsets, or its template is not valid.
    """
    backend = private_backend(tokenizer)
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    names = {**backend.specials, **named}
    title = f"the chat template of {called(tokenizer)}"
    shown = tuple(tokenizer.special_tokens_map.items())

    def renderer(template: str | None) -> Renderer | None:
        if template is None:
            return None
        return _renderer(template, tuple(names.values()), shown, title)

    renderers = (
        renderer(template_of(tokenizer)),
        renderer(template_of(tokenizer, tools=True)),
    )
    begin, end = _begin(tokenizer), tokenizer.eos_token_id
    return Coder(backend.fast, renderers, begin, end, frozenset(names))


@functools.lru_cache(maxsize=32)
def _renderer(
    template: str, specials: tuple[str, ...], names: tuple[tuple[str, Any], ...], title: str
) -> Renderer:
    return Renderer(template, specials, dict(names), title)


@dataclass(frozen=True, slots=True)
class Plan:
    """A row's text, the characters that carry loss, and whether an end token is to be added."""

    text: str
    spans: list[Span]
    ends: bool
    begins: list[int]
    dropped: tuple[str, ...] = ()
    """What the template leaves out, as kinds of findings."""


def encode(
    row: Row,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    supervision: Supervision = EVERYTHING,
) -> Example:
    """Return the row's token ids, and as labels those of the tokens that carry loss.

    Loss lies on what the model writes: for a conversation each assistant message with its end
    token, for a plain text all of it with the tokenizer's end-of-text token. A token that
    straddles a border of an answer carries no loss, so that nothing a user wrote is trained on.

    Args:
        row: the row.
        tokenizer: a `transformers` tokenizer with character offsets.
        max_length: cut what is longer, at its end; None cuts nothing.
        supervision: which parts of the answers carry loss.

    Raises:
        DataError: the template refuses the row, or no token of it would carry loss.
    """
    return encode_all([row], tokenizer, max_length, supervision)[0]


def encode_all(
    rows: Iterable[Row],
    tokenizer: Any,
    max_length: int | None = None,
    supervision: Supervision = EVERYTHING,
) -> list[Example]:
    """Return `encode` of each row; the tokenizer works on many at once.

    Raises:
        DataError: some rows cannot be encoded; the text lists each of them.
    """
    examples: list[Example] = []
    faults: list[Fault] = []
    total = 0
    for made in encoded(rows, tokenizer, max_length, supervision):
        total += 1
        if isinstance(made, Fault):
            faults.append(made)
        else:
            examples.append(made)
    if faults:
        raise BrokenRowsError(f"encoding for {called(tokenizer)}", faults, total)
    return examples


def encoded(
    rows: Iterable[Row],
    tokenizer: Any,
    max_length: int | None = None,
    supervision: Supervision = EVERYTHING,
    *,
    verified: int | None = None,
) -> Iterator[Example | Fault]:
    """Yield each row's example, or why there is none, in order.

    Args:
        rows: the rows.
        tokenizer: a `transformers` tokenizer with character offsets.
        max_length: cut what is longer, at its end; None cuts nothing.
        supervision: which parts of the answers carry loss.
        verified: compare only this many texts with what the tokenizer itself renders.
    """
    prepared = coder(tokenizer)
    batches = _planned_batches(rows, tokenizer, prepared, supervision, verified)
    # The backend leaves the interpreter alone, so it works on the next batch beside what is done
    # with this one.
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        codes: concurrent.futures.Future[list[Any]] | None = None
        held: list[tuple[Row, Plan | Fault]] = []
        for batch in itertools.chain(batches, [[]]):
            texts = [plan.text for _, plan in batch if isinstance(plan, Plan)]
            coming = beside.submit(prepared.fast.encode_batch, texts, add_special_tokens=False)
            if codes is not None:
                yield from _finished(held, codes.result(), prepared, max_length)
            held, codes = batch, coming


def _planned_batches(
    rows: Iterable[Row],
    tokenizer: Any,
    prepared: Coder,
    supervision: Supervision,
    verified: int | None,
) -> Iterator[list[tuple[Row, "Plan | Fault"]]]:
    remaining = iter(rows)
    seen = 0
    while batch := list(itertools.islice(remaining, _BATCH)):
        plans: list[tuple[Row, Plan | Fault]] = []
        for row in batch:
            seen += 1
            try:
                checked = verified is None or seen <= verified
                plans.append((row, planned(row, tokenizer, prepared, supervision, checked)))
            except DataError as e:
                plans.append((row, Fault(row.line, str(e), "template")))
        yield plans


def _finished(
    batch: list[tuple[Row, "Plan | Fault"]], codes: list[Any], prepared: Coder, limit: int | None
) -> Iterator[Example | Fault]:
    remaining = iter(codes)
    for row, plan in batch:
        if isinstance(plan, Fault):
            yield plan
        else:
            yield limited(row, example_of(row, plan, next(remaining), prepared), limit)


def limited(row: Row, example: Example, max_length: int | None) -> Example | Fault:
    """Return the row's example cut to `max_length` tokens, or why nothing can be learned of it."""
    cut = 0 if max_length is None else max(0, len(example.ids) - max_length)
    if cut:
        weights = example.weights and example.weights[:max_length]
        ids, labels = example.ids[:max_length], example.labels[:max_length]
        example = Example(ids, labels, row.line, cut, weights, example.dropped)
    if all(label == IGNORE_INDEX for label in example.labels):
        return Fault(row.line, _why_no_loss(row, example, max_length), "no_loss")
    return example


def divided(example: Example, max_length: int) -> list[Example]:
    """Return the example of a long plain text as consecutive pieces, nothing of it left out."""
    return [
        Example(example.ids[i : i + max_length], example.labels[i : i + max_length], example.line)
        for i in range(0, len(example.ids), max_length)
    ]


def _why_no_loss(row: Row, example: Example, max_length: int | None) -> str:
    if row.messages is not None and not any(m["role"] == "assistant" for m in row.messages):
        return "no token carries loss: there is no answer in it"
    if row.weights is not None and not any(
        weight
        for weight, m in zip(row.weights, row.messages or (), strict=True)
        if m["role"] == "assistant"
    ):
        return "no token carries loss: every answer in it has the weight 0"
    if example.cut:
        return (
            f"no token carries loss: the answer begins after the first {max_length} tokens and the "
            "row is cut there; raise max_length or shorten the prompt"
        )
    return "no token carries loss: the answer shares its tokens with the text before it"


def planned(
    row: Row, tokenizer: Any, prepared: Coder, supervision: Supervision, checked: bool
) -> Plan:
    """Return the text of a row and which of its characters carry loss."""
    if row.messages is None:
        text = row.text or ""
        brought = bool(prepared.begin) and text.startswith(tokenizer.bos_token)
        start = len(tokenizer.bos_token) if brought else 0
        return Plan(text, [Span(start, len(text), 0)], True, [] if brought else prepared.begin)
    rendered = rendered_row(row, tokenizer, prepared, checked=checked)
    chosen = taught(row.messages, supervision, row.weights)
    for message, reason in rendered.silent.items():
        if message in chosen:
            remedy = "take a model whose template writes it, or put it into the text"
            raise DataError(f"{reason}; {remedy}")
    spans = learned(rendered, row.messages, supervision, row.weights)
    ends = not rendered.closed and len(row.messages) - 1 in {s.message for s in rendered.spans}
    dropped = kinds_of(rendered.form.unwritten, chosen)
    return Plan(rendered.text, spans, ends and supervision.end_token, [], dropped)


def rendered_row(row: Row, tokenizer: Any, prepared: Coder, *, checked: bool = True) -> Rendered:
    """Return a conversation as text with its spans.

    Args:
        row: a row with messages.
        tokenizer: the tokenizer.
        prepared: what `coder` made of it.
        checked: whether the text is compared with what the tokenizer itself renders.

    Raises:
        DataError: there is no template, it refuses the row, or the texts differ.
    """
    renderer = prepared.renderer(row.tools)
    messages = row.messages or []
    if renderer is None:
        raise DataError(no_template(tokenizer))
    rendered = renderer.render(messages, tools=row.tools)
    if checked:
        with refusals(renderer.title):
            theirs = tokenizer.apply_chat_template(
                rendered.form.messages,
                tools=rendered.form.tools,
                chat_template=renderer.source,
                tokenize=False,
            )
        if theirs != rendered.text:
            raise DataError(
                f"{renderer.title} gives another text when its parts are tracked, so no exact "
                "spans can be told; it may depend on the time or on chance"
            )
    return rendered


def no_template(tokenizer: Any) -> str:
    """Return the sentence for a tokenizer that cannot render conversations."""
    if names := sorted(templates_of(tokenizer)):
        return (
            f"the tokenizer {called(tokenizer)} has the chat templates {', '.join(names)} and none "
            "named default, so none is taken unasked; save the one you mean as chat_template.jinja in "
            "the model's folder, or set tokenizer.chat_template to its text"
        )
    return (
        f"the tokenizer {called(tokenizer)} has no chat template, "
        "and its tokens are of no family strop knows, so conversations cannot be rendered; use the "
        "instruct version of the model, set tokenizer.chat_template (strop.data.family_template has "
        "some), or give the data as plain `text`"
    )


def _begin(tokenizer: Any) -> list[int]:
    ids = tokenizer("a")["input_ids"]
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and ids and ids[0] == bos else []


def example_of(row: Row, plan: Plan, code: Any, prepared: Coder) -> Example:
    """Return the whole example of a row from what the backend made of its text."""
    ids = plan.begins + code.ids
    labels = [IGNORE_INDEX] * len(ids)
    weights = None if row.weights is None else [1.0] * len(ids)
    skipped = len(plan.begins)
    offsets = code.offsets
    token = 0
    for span in plan.spans:
        while token < len(offsets) and offsets[token][0] < span.start:
            token += 1
        while token < len(offsets) and offsets[token][1] <= span.end:
            labels[skipped + token] = ids[skipped + token]
            if weights is not None and row.weights is not None:
                weights[skipped + token] = row.weights[span.message]
            token += 1
    if plan.ends and prepared.eos is not None and (not ids or ids[-1] != prepared.eos):
        ids.append(prepared.eos)
        labels.append(prepared.eos)
        if weights is not None and row.weights is not None:
            weights.append(row.weights[-1])
    return Example(ids, labels, row.line, 0, weights, plan.dropped)


def prompt(row: Row, tokenizer: Any) -> tuple[list[int], str]:
    """Return the tokens a model is given to produce the row's last answer, and that answer.

    Raises:
        DataError: the row is a plain text, has no answer, or the template refuses it.
    """
    last = _last_answer(row)
    messages = row.messages or []
    prepared = coder(tokenizer)
    renderer = prepared.renderer(row.tools)
    if renderer is None:
        raise DataError(no_template(tokenizer))
    if last == 0:
        raise DataError(f"line {row.line}: the answer stands first, nothing asks for it")
    text = renderer.prompt(messages, last, row.tools)
    ids = prepared.fast.encode(text, add_special_tokens=False).ids
    return ids, content_text(messages[last])


def _last_answer(row: Row) -> int:
    if row.messages is None:
        raise DataError(f"line {row.line}: a plain text has no prompt and no answer")
    for i in reversed(range(len(row.messages))):
        if row.messages[i]["role"] == "assistant":
            return i
    raise DataError(f"line {row.line}: no message has the role assistant")
