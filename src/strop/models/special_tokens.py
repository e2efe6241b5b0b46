"""Which tokens pad and which end an answer."""

from typing import Any

from strop.core.errors import DataError
from strop.data.encoding.templates import template_of, templates_of

_PADS = ("<pad>", "<|pad|>", "<|finetune_right_pad_id|>", "[PAD]", "<|endoftext|>", "<unk>")
"""Tokens that may pad, best first; padding is masked out, so any token that ends nothing serves."""
_TURN_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|eot|>", "<|end|>", "<turn|>")
"""Tokens by which chat templates end a turn."""


def settle(model: Any, tokenizer: Any, *, keep_pad: bool = False) -> None:
    """Give model and tokenizer the same pad token, and the model every token that ends an answer.

    A pad token equal to the end token would teach trainers to ignore the end, so another is taken
    where the vocabulary has one. A tokenizer without a chat template gets that of its family, so
    that what is trained with is also chatted with and saved. Changes `tokenizer.chat_template` and
    `pad_token`, `pad_token_id` of both configurations and `generation_config.eos_token_id`;
    nothing else.

    Args:
        model: has a configuration and generation settings.
        tokenizer: its tokenizer.
        keep_pad: a pad token stays, even where it ends answers.
    """
    if not tokenizer.chat_template:
        tokenizer.chat_template = template_of(tokenizer)
    ends = end_ids(model, tokenizer)
    pad = tokenizer.pad_token_id
    if pad is None or (pad in ends and not keep_pad):
        vocabulary = tokenizer.get_vocab()
        free = (token for token in _PADS if vocabulary.get(token, -1) not in {-1, *ends})
        tokenizer.pad_token = next(free, tokenizer.pad_token or tokenizer.eos_token)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = ends


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: the model's, the tokenizer's, the chat template's.

    Raises:
        DataError: the model names an end that is no id.
    """
    stated = model.generation_config.eos_token_id
    ids = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_token_id}
    if wrong := [i for i in ids if not isinstance(i, int | None)]:
        raise DataError(
            f"the eos_token_id of the model's generation settings is {wrong[0]!r}, which is no id of "
            "a token; correct it in generation_config.json"
        )
    template = "".join(templates_of(tokenizer).values())
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[end] for end in _TURN_ENDS if end in vocabulary and end in template}
    return sorted(ids - {None})
