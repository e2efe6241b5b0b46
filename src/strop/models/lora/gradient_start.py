"""Where a LoRA begins by LoRA-GA: at the directions of the first gradient of the weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError
from strop.core.tokens import IGNORE_INDEX
from strop.models.lora.starts import GRADIENT, linear_layers, write_mirrored

TOKENS = 8192
"""Read at most for the gradient; PEFT's example takes about as many."""
_GAMMA = 16
_ITERATIONS = 4


def begin_by_gradient(
    model: Any, token_ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> None:
    """Let every linear layer's adapter begin along the gradient of its weight, minus that start.

    G = U diag(s) V^T of the mean loss over the rows read,  A0 = V_1..r^T,
    B0 = U_r+1..2r diag(s_r+1..2r) E^(1/4) / sqrt(gamma),  gamma = 16

    PEFT's formula (LoRA-GA, arXiv:2407.05000, direction "ArB2r", scale "stable"), and its random
    projection for the decomposition. The weight stays as it is and the adapter has a frozen second half
    of the opposite sign, as in `strop.models.lora.starts`; a weight in few bits has its gradient too,
    from what flows into and back through its layer.

    Args:
        model: a PEFT model whose adapter has twice the rank that is trained, about to train.
        token_ids: rows that are trained on; up to `TOKENS` are read.
        labels: of these, `IGNORE_INDEX` where a token is not supervised.

    Raises:
        ConfigError: a layer is smaller than the rank, or no token is supervised.
    """
    layers = list(linear_layers(model))
    gradients = _gradients(model, layers, list(_rows(token_ids, labels)))
    for name, layer in layers:
        rank = len(layer.lora_A[layer.active_adapters[0]].weight) // 2
        gradient = gradients.pop(name)
        if 2 * rank > min(gradient.shape):
            raise ConfigError(
                f"rank is {rank}, and {name} has a weight of {list(gradient.shape)}: lora_init "
                f"{GRADIENT} needs twice as many directions; lower the rank, or its rank_pattern"
            )
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.manual_seed(0)
            count = min(4 * rank, min(gradient.shape))
            u, sizes, v = torch.svd_lowrank(gradient, count, niter=_ITERATIONS)
            second = slice(rank, 2 * rank)
            scale = len(gradient) ** 0.25 / _GAMMA**0.5
            write_mirrored(layer, v[:, :rank].T, u[:, second] * sizes[second] * scale)


def _rows(
    token_ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the first rows that have a supervised token, up to `TOKENS`."""
    read = 0
    for ids, of in zip(token_ids, labels, strict=True):
        if all(label == IGNORE_INDEX for label in of[1:]):
            continue
        yield list(ids), list(of)
        read += len(ids)
        if read >= TOKENS:
            return


def _gradients(
    model: Any, layers: Sequence[tuple[str, Any]], rows: Sequence[tuple[list[int], list[int]]]
) -> dict[str, Tensor]:
    """Return the gradient [E, D] of each layer's weight, of the mean loss of each row, by its name.

    sum over tokens of dy x^T, taken where x flows into the layer below the adapter and dy back out.
    """
    if not rows:
        raise ConfigError(f"lora_init {GRADIENT} needs rows with tokens to learn; there is none")
    totals: dict[str, Tensor] = {}
    hooks = [
        layer.get_base_layer().register_forward_hook(_note(name, totals)) for name, layer in layers
    ]
    training = model.training
    model.eval()  # the adapter adds nothing yet, and dropout draws nothing
    device = next(model.parameters()).device
    try:
        for ids, labels in rows:
            tokens, targets = (torch.tensor([row], device=device) for row in (ids, labels))
            embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
            with torch.enable_grad():
                loss = model(inputs_embeds=embedded, labels=targets, use_cache=False).loss
                torch.autograd.grad(loss, embedded)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return {name: total / len(rows) for name, total in totals.items()}


def _note(name: str, totals: dict[str, Tensor]) -> Any:
    """Return a hook that adds dy x^T of a layer to its total once dy is known."""

    def forward(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:
            return
        x = inputs[0].detach().flatten(0, -2)

        def add(dy: Tensor) -> None:
            gradient = dy.flatten(0, -2).T.float() @ x.float()
            totals[name] = totals[name] + gradient if name in totals else gradient

        output.register_hook(add)

    return forward
