"""Embeddings and head that are trained whole beside an adapter (PEFT's `modules_to_save`)."""

from collections.abc import Iterator
from typing import Any

import torch


def embedding_modules(model: Any) -> dict[str, Any]:
    """Return PEFT's settings by which embedding and head of a transformers model are trained.

    A head that is tied to the embedding stays tied.
    """
    entering, leaving = model.get_input_embeddings(), model.get_output_embeddings()
    tied = leaving is None or leaving.weight is entering.weight
    whole = (entering,) if tied else (entering, leaving)
    names = [
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if any(module is x for x in whole)
    ]
    return {"modules_to_save": names, **({"ensure_weight_tying": True} if tied else {})}


def widen_copies(model: Any) -> bool:
    """Hold whole layers that are trained beside an adapter in 32 bits; say whether there are any.

    PEFT copies them as they are, and 16 bits would round most of what a step changes away.
    """
    from peft.utils import ModulesToSaveWrapper

    widened = False
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            widened = True
            for parameter in module.modules_to_save.parameters():
                parameter.data = parameter.data.float()
    return widened


def embedding_parameters(model: Any) -> Iterator[torch.nn.Parameter]:
    """Yield the trained weights of embedding and head."""
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if layer is not None:
            yield from (p for p in layer.parameters() if p.requires_grad)
