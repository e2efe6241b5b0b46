"""Embeddings and head that are trained whole beside an adapter, and tokens that are added to them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError
from strop.core.files import reading
from strop.layers.narrow import NarrowEmbedding
from strop.models.precision import bits_of


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


def embedding_weights(model: Any) -> list[torch.Tensor]:
    """Return the weights of embedding and head, once where they are tied."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [*{id(x.weight): x.weight for x in layers if x is not None}.values()]


def embedding_parameters(model: Any) -> Iterator[torch.nn.Parameter]:
    """Yield the trained weights of embedding and head."""
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if layer is not None:
            yield from (p for p in layer.parameters() if p.requires_grad)


def read_tokens(file: Path) -> list[str]:
    """Return the tokens of a text file, one a line.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    with reading(file, "add_tokens is a text file with a token on each line"):
        tokens = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    if not any(tokens):
        raise DataError(f"{file} holds no tokens; write one on each line")
    return [*dict.fromkeys(token for token in tokens if token)]


@torch.no_grad()
def add_tokens(model: Any, tokenizer: Any, tokens: Sequence[str]) -> int:
    """Add tokens to a tokenizer and a model, each beginning as the mean of what it was before.

        row of a new token = mean of the rows of the tokens that its text had

    Args:
        model: of 32 bits, or of 16 in which it computes.
        tokenizer: gets them.
        tokens: those that it has already stay as they are.

    Returns:
        How many are new.

    Raises:
        ConfigError: the weights are held in fewer bits than the model computes in.
    """
    if bits_of(model) == 4 or isinstance(model.get_input_embeddings(), NarrowEmbedding):
        raise ConfigError(
            "add_tokens makes the embeddings longer, which needs them in the format of products; take "
            "bits 32"
        )
    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    pieces = [tokenizer(token, add_special_tokens=False)["input_ids"] for token in new]
    tokenizer.add_tokens(new)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for weight in embedding_weights(model):
        for token, ids in zip(new, pieces, strict=True):
            weight[tokenizer.convert_tokens_to_ids(token)] = weight[ids].mean(0)
    return len(new)
