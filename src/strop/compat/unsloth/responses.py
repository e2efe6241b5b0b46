"""Unsloth's `train_on_responses_only`: labels of everything but answers are taken out of the loss."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.core.tokens import IGNORE_INDEX

log = logging.getLogger("strop")

_TURNS = ("What is seven?", "It is a number.", "And what is eight?", "One more.")
_CONTEXTS = (("", ""), ("A", "A"), (".", "The"), (" x", "\n"), ("\n", "1"))
"""Texts around a mark, in which it has to be the same tokens."""


def train_on_responses_only(
    trainer: Any,
    instruction_part: str | None = None,
    response_part: str | None = None,
    force_match: bool = True,
    tokenizer: Any = None,
    return_function: bool = False,
    num_proc: int | None = None,
    last_response_only: bool = False,
) -> Any:
    """Return the trainer with labels only on answers, their end included.

    Args:
        trainer: of TRL, its rows as tokens.
        instruction_part: the text before what a user says; None: as the chat template writes it.
        response_part: the text before an answer; None: as the chat template writes it.
        force_match: without effect: of a mark those tokens count that are the same in all texts.
        tokenizer: None takes the trainer's.
        return_function: return the function from rows to labels instead.
        num_proc: processes.
        last_response_only: only the last answer of a row.

    Raises:
        ConfigError: the chat template has no marks around turns, or one of the parts is absent.
        DataError: no row has an answer between such marks.
    """
    tokenizer = tokenizer or trainer.processing_class
    if instruction_part is None or response_part is None:
        instruction_part, response_part = marks_of(tokenizer)
    question, answer = (mark_ids(tokenizer, part) for part in (instruction_part, response_part))

    def labelled(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = rows["input_ids"]
        labels = [_labels(ids, question, answer, last=last_response_only) for ids in texts]
        return {"labels": labels}

    if return_function:
        return labelled
    for name in ("train_dataset", "eval_dataset"):
        setattr(trainer, name, _each(getattr(trainer, name), labelled, num_proc))
    return trainer


def _each(rows: Any, labelled: Callable[..., Any], num_proc: int | None) -> Any:
    if rows is None:
        return None
    if isinstance(rows, dict):
        return {name: _each(part, labelled, num_proc) for name, part in rows.items()}
    if "input_ids" not in (rows.column_names or ()):
        raise ConfigError(
            "the rows have no input_ids; call train_on_responses_only on a trainer that encodes its "
            "rows: not on one with skip_prepare_dataset or a streamed data set"
        )
    labels = rows.map(labelled, batched=True, num_proc=num_proc, desc="labels on answers")
    some = labels.filter(lambda row: any(label != IGNORE_INDEX for label in row["labels"]))
    if not len(some):
        raise DataError(
            "no row has an answer between the marks; print tokenizer.apply_chat_template(chat, "
            "tokenize=False) and give instruction_part and response_part as they stand there"
        )
    if left := len(labels) - len(some):
        log.warning(
            "%d rows have no answer between the marks, or it was cut; they are left out", left
        )
    return some


def _labels(
    ids: Sequence[int], question: Sequence[int], answer: Sequence[int], *, last: bool
) -> list[int]:
    """Return the ids of answers, and -100 for the rest.

    An answer begins behind its mark and ends before the next question's.
    """
    labels = [IGNORE_INDEX] * len(ids)
    spans = []
    place: int | None = 0
    while place is not None and (start := _position(ids, answer, place)) is not None:
        start += len(answer)
        place = _position(ids, question, start)
        spans.append((start, len(ids) if place is None else place))
    for start, stop in spans[-1:] if last else spans:
        labels[start:stop] = ids[start:stop]
    return labels


def _position(ids: Sequence[int], mark: Sequence[int], start: int) -> int | None:
    size, first = len(mark), mark[0]
    for i in range(start, len(ids) - size + 1):
        if ids[i] == first and list(ids[i : i + size]) == list(mark):
            return i
    return None


def mark_ids(tokenizer: Any, part: str) -> list[int]:
    """Return the longest run of a mark's tokens that is the same whatever stands around it.

    Raises:
        ConfigError: no token of it stays the same.
    """
    ids = _ids(tokenizer, part)
    around = [_ids(tokenizer, before + part + after) for before, after in _CONTEXTS]
    for size in range(len(ids), 0, -1):
        for start in range(len(ids) - size + 1):
            run = ids[start : start + size]
            if all(_position(other, run, 0) is not None for other in around):
                return run
    raise ConfigError(f"{part!r} is cut into other tokens in each text; give a longer mark")


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def marks_of(tokenizer: Any) -> tuple[str, str]:
    """Return the texts that a chat template writes before what a user says and before an answer.

    Raises:
        ConfigError: there is no template, or nothing stands there.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "the tokenizer has no chat template; give instruction_part and response_part, or put "
            "one on by get_chat_template"
        )
    roles = ("user", "assistant", "user", "assistant")
    chat = [{"role": role, "content": text} for role, text in zip(roles, _TURNS, strict=True)]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    places = [text.find(turn) for turn in _TURNS]
    if -1 in places or places != sorted(places):
        raise ConfigError(
            "the chat template does not write all turns in order; give instruction_part and "
            "response_part"
        )
    between = [text[places[i] + len(_TURNS[i]) : places[i + 1]] for i in range(len(_TURNS) - 1)]
    answer, question = between[0], between[1]
    question = _common_end(question, text[: places[0]])  # the end of an answer is learned
    answer = _without_end(answer, tokenizer)
    if not question.strip() or not answer.strip():
        raise ConfigError(
            "the chat template has no marks around turns; give instruction_part and response_part"
        )
    return question, answer


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def _without_end(mark: str, tokenizer: Any) -> str:
    """Return a mark without the end of the turn before it."""
    ends = ("<|im_end|>\n", "<|im_end|>", "<|eot_id|>", "<end_of_turn>\n", "<|end|>\n", "<|end|>")
    for end in (*ends, tokenizer.eos_token or ""):
        if end and mark.startswith(end) and len(mark) > len(end):
            return mark.removeprefix(end)
    return mark
