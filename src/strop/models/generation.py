"""Answer a chat, piece by piece or whole."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError, UnsupportedError
from strop.core.tokens import context_length
from strop.data.encoding.templates import template_of
from strop.models.special_tokens import end_ids


def reply(
    model: Any,
    tokenizer: Any,
    messages: Sequence[dict[str, Any]] | str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the pieces of the answer as they are produced; joined they are the answer.

    The model is in eval mode while it answers and afterwards as it was.

    Args:
        model: a transformers or PEFT causal language model.
        tokenizer: its tokenizer.
        messages: the chat so far, or a text to be continued as it stands.
        max_new_tokens: the answer stops there at the latest.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        seed: of the drawing.

    Raises:
        ConfigError: an empty prompt, one longer than the model's context, an impossible setting.
        UnsupportedError: messages are given and the model has no chat template.
    """
    if max_new_tokens < 1 or temperature < 0:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens} and temperature={temperature} cannot both be used; "
            "max_new_tokens must be 1 or more and temperature 0 or more"
        )
    prompt = _prompt_ids(tokenizer, messages)
    room = context_length(model.config) or len(prompt) + max_new_tokens
    if len(prompt) >= room:
        raise ConfigError(f"the prompt has {len(prompt)} tokens and the model takes {room}")
    drawing = torch.Generator().manual_seed(seed)
    new_ids = _new_ids(
        model,
        prompt,
        ends=frozenset(end_ids(model, tokenizer)),
        most=min(max_new_tokens, room - len(prompt)),
        pick=lambda logits: _pick(logits, temperature, drawing),
    )
    return pieces_of_text(tokenizer, new_ids)


def complete(
    model: Any,
    tokenizer: Any,
    messages: Sequence[dict[str, Any]] | str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """Return the whole answer; see `reply`."""
    return "".join(
        reply(
            model,
            tokenizer,
            messages,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
    )


def _prompt_ids(tokenizer: Any, messages: Sequence[dict[str, Any]] | str) -> list[int]:
    if isinstance(messages, str):
        ids = list(tokenizer(messages)["input_ids"])
    elif not messages:
        raise ConfigError("there are no messages to answer; give at least one of role user")
    elif (template := template_of(tokenizer)) is None:
        raise UnsupportedError(
            "the model has no chat template, or several and none named default, so messages cannot be "
            "put to it; give one text to continue instead, or set tokenizer.chat_template"
        )
    else:
        ids = list(
            tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
            )["input_ids"]
        )
    if not ids:
        raise ConfigError("the text to continue is empty; give at least one word")
    return ids


def _new_ids(
    model: Any, prompt: list[int], *, ends: frozenset[int], most: int, pick: Any
) -> Iterator[int]:
    """Yield the ids of the answer, without the one that ends it."""
    was_training = model.training
    model.eval()
    try:
        cache, ids = None, prompt
        for _ in range(most):
            logits, cache = _step(model, ids, cache)
            token = pick(logits)
            if token in ends:
                return
            yield token
            ids = [token]
    finally:
        model.train(was_training)


@torch.no_grad()
def _step(model: Any, ids: list[int], cache: Any) -> tuple[Tensor, Any]:
    """Return the next token's logits [V] on the CPU and the cache that holds `ids` as well."""
    out = model(
        input_ids=torch.tensor([ids], device=model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if getattr(out, "past_key_values", None) is None:
        raise UnsupportedError(f"{type(model).__name__} keeps no cache of keys and values")
    return out.logits[0, -1].float().cpu(), out.past_key_values


def _pick(logits: Tensor, temperature: float, drawing: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / temperature, dim=-1)
    return int(torch.multinomial(chances, 1, generator=drawing))


def pieces_of_text(tokenizer: Any, ids: Iterable[int]) -> Iterator[str]:
    """Yield text as soon as it is settled; joined it is the decoding of all `ids`.

    A character may span several tokens, and a token's text may depend on the one before it, so
    each piece is the difference of two decodings that start one piece earlier.
    """

    def text(tokens: list[int]) -> str:
        return str(
            tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    window: list[int] = []
    settled = 0  # tokens of the window whose text was yielded
    for token in ids:
        window.append(token)
        whole = text(window)
        if whole.endswith("\ufffd"):
            continue  # within a character
        if piece := whole[len(text(window[:settled])) :]:
            yield piece
            window, settled = window[settled:], len(window) - settled
    if rest := text(window)[len(text(window[:settled])) :]:
        yield rest
