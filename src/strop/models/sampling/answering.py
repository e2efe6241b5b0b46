"""Answers of a model to any number of prompts, at once or piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Any

from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.models.sampling.batching import chosen_tokens
from strop.models.sampling.rows import Answer, Row, rows_of
from strop.models.sampling.settings import Sampling, settings_of_rows
from strop.models.sampling.text import Prompt, pieces_of_text
from strop.models.special_tokens import end_ids


def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    settings: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008 (it cannot be changed)
    *,
    seed: int | Sequence[int] = 0,
    progress: Progress = silent,
) -> list[Answer]:
    """Return the answer to each prompt.

    A prompt that is given several times is computed once. A row's answer is drawn by its own seed,
    and is the same to rounding whatever else is in the batch. The model is in eval mode meanwhile
    and afterwards as it was; an adapter that is switched off stays off.

    Args:
        model: a transformers or PEFT causal language model.
        tokenizer: its tokenizer.
        prompts: texts to continue, chats (lists of messages) or lists of token ids, in any mixture.
        settings: of all rows, or of each.
        seed: of each row; one number n gives row i the seed n + i.
        progress: called with the number of finished answers.

    Raises:
        ConfigError: a setting cannot work; a prompt is empty, longer than the model's context, or has
            a token that the model has not. All of them at once.
        UnsupportedError: messages are given and the model has no chat template.
    """
    rows = _rows(model, tokenizer, prompts, settings, seed)
    if not rows:
        return []
    done = 0
    progress("sampling", 0, len(rows))
    for row in chosen_tokens(model, tokenizer, rows):
        if row.finish_reason is not None:
            done += 1
            progress("sampling", done, len(rows))
    return [row.answer(tokenizer) for row in rows]


def reply(
    model: Any,
    tokenizer: Any,
    messages: Prompt,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the pieces of one answer as they are produced; joined they are the answer.

    Args:
        model: see `sample`.
        tokenizer: see `sample`.
        messages: the chat so far, or a text to be continued as it stands.
        max_new_tokens: the answer stops there at the latest.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        seed: of the drawing.

    Raises:
        ConfigError: see `sample`.
        UnsupportedError: see `sample`.
    """
    settings = Sampling(max_new_tokens=max_new_tokens, temperature=temperature)
    (row,) = rows = _rows(model, tokenizer, [messages], settings, seed)

    def ids() -> Iterator[int]:
        steps = chosen_tokens(model, tokenizer, rows)
        try:
            for _ in steps:
                if row.ids[-1] not in row.ends:
                    yield row.ids[-1]
        finally:
            steps.close()  # type: ignore[attr-defined]

    return pieces_of_text(tokenizer, ids())


def complete(model: Any, tokenizer: Any, messages: Prompt, **settings: Any) -> str:
    """Return one answer as text.

    Args:
        model: see `sample`.
        tokenizer: see `sample`.
        messages: the chat so far, or a text to be continued as it stands.
        settings: fields of `Sampling`, and `seed`.
    """
    seed = settings.pop("seed", 0)
    return sample(model, tokenizer, [messages], Sampling(**settings), seed=seed)[0].text


def _rows(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    settings: Sampling | Sequence[Sampling],
    seed: int | Sequence[int],
) -> list[Row]:
    each = settings_of_rows(settings, len(prompts))
    seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(prompts):
        raise ConfigError(
            f"there are {len(seeds)} seeds for {len(prompts)} prompts; give one for each"
        )
    return rows_of(model, tokenizer, prompts, each, seeds, frozenset(end_ids(model, tokenizer)))
