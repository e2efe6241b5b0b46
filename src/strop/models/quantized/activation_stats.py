"""How large the inputs of a tuned model's weights are, channel by channel, on what it was tuned on."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.forward.base_model import base_model
from strop.quantization.linear_layers import linear_layers, watching_inputs

TOKENS = 1024
"""Read at most: channels differ by orders of magnitude, and so many tokens tell which are large."""


@torch.no_grad()
def input_statistics(model: Any, texts: Iterable[Sequence[int]]) -> dict[str, Tensor]:
    """Return the mean square of every channel that a linear layer reads.

        energy_j = mean over tokens of x_j^2

    Args:
        model: a language model, with or without PEFT's wrapper; it is left in eval mode.
        texts: token ids, read until there were `TOKENS` of them.

    Returns:
        [I] float32 each, by the names that the weights have in the base's files. What a tied head
        reads goes by the name of the embedding.
    """
    inner = base_model(model.eval())
    head, entering = inner.get_output_embeddings(), inner.get_input_embeddings()
    tied = head is not None and head.weight is entering.weight
    sums: dict[str, Tensor] = {}
    read = 0
    layers = linear_layers(inner, without=head)
    named = next(name for name, of in inner.named_modules() if of is (entering if tied else head))
    with watching_inputs(layers, lambda name, inputs: _add(sums, _weight(name), inputs)):
        for ids in texts:
            part = torch.tensor([ids[: TOKENS - read]], device=model.device)
            hidden = inner.base_model(input_ids=part, use_cache=False).last_hidden_state
            _add(sums, _weight(named), hidden)
            read += part.numel()
            if read == TOKENS:
                break
    return {name: (total / max(1, read)).cpu() for name, total in sums.items()}


def _weight(module: str) -> str:
    return f"{module.removesuffix('.base_layer')}.weight"


def _add(sums: dict[str, Tensor], name: str, inputs: Tensor) -> None:
    squares = inputs.flatten(0, -2).float().square().sum(0)
    sums[name] = sums[name] + squares if name in sums else squares
