"""Encoding of rows: render each as text, tokenize it, label the supervised tokens."""

import bisect
import concurrent.futures
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from strop.core.errors import DataError
from strop.core.system.memory import check_limits
from strop.core.tokens import IGNORE_INDEX
from strop.data.encoding.length import WHOLE, Fit
from strop.data.encoding.prepared_tokenizer import PreparedTokenizer, prepare, tokenizer_name
from strop.data.encoding.supervised_text import SupervisedText, supervised_text
from strop.data.encoding.supervision import EVERYTHING, Supervision
from strop.data.message_text import content_text
from strop.data.rows import Example, Fault, Row
from strop.data.token_windows import encode_text, encode_texts

_BATCH, _BATCH_CHARACTERS = 256, 1 << 20
"""Most rows that are tokenized at once, and characters of them, but for a longer row."""


def encode(
    row: Row,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    supervision: Supervision = EVERYTHING,
) -> Example:
    """Return the row's token ids, and as labels those of the supervised tokens.

    Supervised is what the model writes: of a conversation each assistant message with its end
    token, of a plain text all of it with the tokenizer's end-of-text token. A token that
    straddles a border of an answer is not supervised, so that nothing a user wrote is trained on.

    Args:
        row: the row.
        tokenizer: a `transformers` tokenizer with character offsets.
        max_length: cut a longer row at its end; None cuts nothing.
        supervision: which parts of the answers are supervised.

    Raises:
        DataError: the template refuses the row, or no token of it would be supervised.
    """
    fit = Fit(max_length, texts="cut")
    return encode_all([row], tokenizer, supervision=supervision, fit=fit)[0]


def encode_all(
    rows: Iterable[Row],
    tokenizer: Any,
    *,
    supervision: Supervision = EVERYTHING,
    fit: Fit = WHOLE,
) -> list[Example]:
    """Return the examples of all rows in order, several of a plain text that `fit` divides.

    Raises:
        DataError: some rows cannot be encoded; the text lists each of them.
    """
    whole = encoded(rows, tokenizer, supervision)
    return fit.all(whole, f"encoding for {tokenizer_name(tokenizer)}")


def encoded(
    rows: Iterable[Row],
    tokenizer: Any,
    supervision: Supervision = EVERYTHING,
    *,
    verified: int | None = None,
) -> Iterator[Example | Fault]:
    """Yield the whole example of each row, or its fault, in order.

    Args:
        rows: the rows.
        tokenizer: a `transformers` tokenizer with character offsets.
        supervision: which parts of the answers are supervised.
        verified: number of texts to compare with what the tokenizer itself renders; None for all.
    """
    check_limits()
    prepared = prepare(tokenizer)
    batches = _rendered_batches(rows, prepared, supervision, verified)
    # The backend releases the interpreter's lock: it tokenizes a batch while the one before is
    # labelled.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        encodings: concurrent.futures.Future[list[Any]] | None = None
        rendered: list[tuple[Row, SupervisedText | Fault]] = []
        for batch in itertools.chain(batches, [[]]):
            texts = [text.text for _, text in batch if isinstance(text, SupervisedText)]
            running = thread.submit(encode_texts, prepared.backend, texts)
            if encodings is not None:
                yield from _labelled_batch(rendered, encodings.result(), prepared)
            rendered, encodings = batch, running


def _rendered_batches(
    rows: Iterable[Row],
    prepared: PreparedTokenizer,
    supervision: Supervision,
    verified: int | None,
) -> Iterator[list[tuple[Row, SupervisedText | Fault]]]:
    rendered: list[tuple[Row, SupervisedText | Fault]] = []
    size = 0
    for i, row in enumerate(rows):
        verify = verified is None or i < verified
        try:
            text = supervised_text(row, prepared, supervision, verify=verify)
        except DataError as e:
            rendered.append((row, Fault(row.line, str(e), "template")))
        else:
            rendered.append((row, text))
            size += len(text.text)
        if len(rendered) == _BATCH or size > _BATCH_CHARACTERS:
            yield rendered
            rendered, size = [], 0
    yield rendered


def _labelled_batch(
    rendered: list[tuple[Row, SupervisedText | Fault]],
    encodings: list[Any],
    prepared: PreparedTokenizer,
) -> Iterator[Example | Fault]:
    remaining = iter(encodings)
    for row, text in rendered:
        if isinstance(text, Fault):
            yield text
            continue
        encoding = next(remaining)
        if isinstance(encoding, DataError):
            yield Fault(row.line, str(encoding), "endless_word")
            continue
        example = labelled(row, text, encoding, prepared)
        if all(label == IGNORE_INDEX for label in example.labels):
            yield Fault(row.line, _unsupervised_reason(row), "no_loss")
        else:
            yield example


def _unsupervised_reason(row: Row) -> str:
    answers = [i for i, m in enumerate(row.messages or ()) if m["role"] == "assistant"]
    if row.messages is not None and not answers:
        return "no token carries loss: there is no answer in it"
    if row.weights is not None and not any(row.weights[i] for i in answers):
        return "no token carries loss: every answer in it has the weight 0"
    return "no token carries loss: the answer shares its tokens with the text before it"


def labelled(row: Row, text: SupervisedText, encoding: Any, prepared: PreparedTokenizer) -> Example:
    """Return the whole example of a row from the backend's encoding of its text."""
    ids = text.begin_ids + encoding.ids
    labels = [IGNORE_INDEX] * len(ids)
    weights = None if row.weights is None else [1.0] * len(ids)
    skipped = len(text.begin_ids)
    tokens, at = range(len(encoding)), 0
    for span in text.spans:  # a list of all offsets would be many times the text
        start = bisect.bisect_left(tokens, span.start, at, key=lambda i: characters(encoding, i)[0])
        at = bisect.bisect_right(tokens, span.end, start, key=lambda i: characters(encoding, i)[1])
        here = slice(skipped + start, skipped + at)
        labels[here] = ids[here]
        if weights is not None and row.weights is not None:
            weights[here] = [row.weights[span.message]] * (at - start)
    if text.ends and prepared.eos is not None and (not ids or ids[-1] != prepared.eos):
        ids.append(prepared.eos)
        labels.append(prepared.eos)
        if weights is not None and row.weights is not None:
            weights.append(row.weights[-1])
    divisible = row.messages is None
    return Example(ids, labels, row.line, 0, weights, text.dropped, divisible)


def characters(encoding: Any, token: int) -> tuple[int, int]:
    """Return the characters of the text that a token of its encoding stands for: from, up to."""
    start, end = encoding.token_to_chars(token)
    return start, end


def prompt(row: Row, tokenizer: Any) -> tuple[list[int], str]:
    """Return the tokens a model is given to produce the row's last answer, and that answer.

    Raises:
        DataError: the row is a plain text, has no answer, or the template refuses it.
    """
    last = _last_answer(row)
    messages = row.messages or []
    prepared = prepare(tokenizer)
    renderer = prepared.renderer(row.tools)
    if last == 0:
        raise DataError(f"line {row.line}: the answer stands first, nothing asks for it")
    text = renderer.prompt(messages, last, row.tools)
    ids = encode_text(prepared.backend, text).ids
    return ids, content_text(messages[last])


def _last_answer(row: Row) -> int:
    if row.messages is None:
        raise DataError(f"line {row.line}: a plain text has no prompt and no answer")
    for i in reversed(range(len(row.messages))):
        if row.messages[i]["role"] == "assistant":
            return i
    raise DataError(f"line {row.line}: no message has the role assistant")
