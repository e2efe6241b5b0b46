"""`generate` of one model served by the sampler, as trainers call it to have answers drawn.

`serve_generate` re-binds `generate` of the model instance. A call whose settings the sampler knows
returns what transformers would, in eval mode: padded prompts and answers side by side. Every other call
goes where it went before, and the first says why.
"""

import copy
import logging
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strop.forward.base_model import base_model
from strop.models.sampling.batching import chosen_tokens
from strop.models.sampling.block_cache import obstacle
from strop.models.sampling.choice import choose_as_transformers
from strop.models.sampling.rows import Row
from strop.models.sampling.settings import Sampling

log = logging.getLogger("strop")

_SERVED = {
    "do_sample",
    "max_new_tokens",
    "min_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
}
_SERVED |= {"repetition_penalty", "pad_token_id", "bos_token_id", "eos_token_id"}
_WITHOUT_EFFECT = {"max_length", "min_length", "use_cache", "disable_compile", "length_penalty"}
_WITHOUT_EFFECT |= {"transformers_version", "early_stopping", "num_assistant_tokens"}
_WITHOUT_EFFECT |= {"num_assistant_tokens_schedule", "assistant_confidence_threshold"}
_WITHOUT_EFFECT |= {"assistant_lookbehind", "target_lookbehind", "num_beam_groups"}
"""Settings that do nothing beside `max_new_tokens`, without beams and without an assistant."""


def serve_generate(model: Any) -> Callable[[], None]:
    """Let the sampler answer `model.generate(...)` where it can, and return the undo."""
    previous, bound, warned = model.generate, vars(model).get("generate"), False

    def generate(self: Any, *args: Any, **call: Any) -> Any:
        nonlocal warned
        if self is not model:
            return type(self).generate(self, *args, **call)
        if (why := _obstacle(args, call)) is None:
            config = _settings(model, call["generation_config"])
            if (why := _unknown(config) or obstacle(model)) is None:
                return _generated(model, call["input_ids"], call.get("attention_mask"), config)
        if not warned and "generation_config" in call:  # as trainers call it
            log.warning("answers come through transformers' generate, which is slower: %s", why)
            warned = True
        return previous(*args, **call)

    model.generate = types.MethodType(generate, model)

    def undo() -> None:
        if bound is None:
            del model.generate
        else:
            model.generate = bound

    return undo


def _obstacle(args: tuple[Any, ...], call: dict[str, Any]) -> str | None:
    """Return why the sampler does not take what a call gives, or None if it does."""
    known = {"input_ids", "attention_mask", "generation_config"}
    if args or (unknown := set(call) - known):
        return f"the call gives {', '.join(sorted(unknown)) if not args else 'unnamed arguments'}"
    ids, mask = call.get("input_ids"), call.get("attention_mask")
    if ids is None or call.get("generation_config") is None or ids.ndim != 2:
        return "the call lacks input_ids [B, T] or a generation_config"
    if mask is not None and (mask.shape != ids.shape or not _padded_left(mask)):
        return "the prompts are not padded on the left"
    return None


def _unknown(config: Any) -> str | None:
    """Return which completed generation settings the sampler does not know, or None if it knows all."""
    if config.max_new_tokens is None:
        return "max_new_tokens is not set"
    plain = type(config)().to_dict() | config._get_default_generation_params()
    other = [
        f"{name} is {value}"
        for name, value in config.to_dict().items()
        if value not in (None, plain.get(name))
        and (value is not False or plain.get(name))  # where the default is None it has no effect
        and not name.startswith("_")
        and name not in _SERVED | _WITHOUT_EFFECT
    ]
    return ", ".join(other) or None


def _settings(model: Any, given: Any) -> Any:
    """Return the generation settings of a call, completed as transformers does."""
    config, of_model = copy.deepcopy(given), base_model(model).generation_config
    config.update(**of_model.to_dict(), defaults_only=True)
    config.update(**of_model._get_default_generation_params(), defaults_only=True)
    return config


def _padded_left(mask: Tensor) -> bool:
    return bool((mask[:, -1] == 1).all() and (mask[:, 1:] >= mask[:, :-1]).all())


def _generated(model: Any, ids: Tensor, mask: Tensor | None, config: Any) -> Tensor:
    """Return prompts and answers [B, T + the longest answer], padded on both sides."""
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    settings = Sampling(
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=config.min_new_tokens or 0,
        temperature=float(config.temperature) if config.do_sample else 0.0,
        top_k=config.top_k or 0,
        top_p=config.top_p,
        min_p=config.min_p or 0.0,
        repetition_penalty=config.repetition_penalty,
    )
    lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
    rows = [
        Row(
            index,
            tuple(row[ids.shape[1] - length :]),
            settings,
            frozenset(end for end in ends if end is not None),
            settings.max_new_tokens,
            torch.Generator(),
        )
        for index, (row, length) in enumerate(zip(ids.tolist(), lengths, strict=True))
    ]
    for _ in chosen_tokens(model, None, rows, choose_as_transformers(len(rows))):
        pass
    pad = 0 if config.pad_token_id is None else config.pad_token_id
    longest = max(len(row.ids) for row in rows)
    answers = [row.ids + [pad] * (longest - len(row.ids)) for row in rows]
    return torch.cat((ids, torch.tensor(answers, device=ids.device)), 1)
