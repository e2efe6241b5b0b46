"""Where a LoRA begins: principal parts of the weights, or of what flows into them.

PiSSA (arXiv:2404.02948) and OLoRA (arXiv:2406.01775) train B A from a principal part s B0 A0 of the weight
and take that part out of the frozen weight. Here the weight stays as it is and the adapter has both:

    s (B A - B0 A0) = s [B, -B0] [A; A0]

so that the second half is frozen and of the opposite sign. The model that is trained is the same one, of
rank 2 r; weights in few bits are not rounded again, and what is saved is an ordinary adapter of the base.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError
from strop.layers.quantized_linear import QuantizedLinear

GRADIENT = "lora_ga"
"""Begins along the gradient of the weights: `strop.models.lora.gradient_start`."""
MIRRORED = ("pissa", "pissa_niter_16", "olora", GRADIENT)
"""Starts with a frozen second half, by PEFT's names."""
_EVA_TOKENS = 8192
"""Read at most for EVA; its vectors converge on fewer."""


def mirrored_fields(
    rank: int, alpha: float, patterns: dict[str, dict[str, float]], *, rslora: bool
) -> dict[str, Any]:
    """Return rank and alpha of an adapter with a second half, whose scale is that of the first alone."""
    factor = math.sqrt(2) if rslora else 2
    fields: dict[str, Any] = {"r": 2 * rank, "lora_alpha": factor * alpha}
    if ranks := patterns.get("rank_pattern"):
        fields["rank_pattern"] = {name: int(2 * of) for name, of in ranks.items()}
    if alphas := patterns.get("alpha_pattern"):
        fields["alpha_pattern"] = {name: factor * of for name, of in alphas.items()}
    return fields


@torch.no_grad()
def begin_mirrored(model: Any, start: str) -> None:
    """Let every linear layer's adapter begin at a principal part of its weight and minus that part.

    Args:
        model: a PEFT model whose adapter has twice the rank that is trained.
        start: one of `MIRRORED` but `GRADIENT`.

    Raises:
        ConfigError: a layer is smaller than the rank.
    """
    for name, layer in linear_layers(model):
        adapter = layer.active_adapters[0]
        rank = len(layer.lora_A[adapter].weight) // 2
        weight = _dense(layer)
        if rank > min(weight.shape):
            raise ConfigError(
                f"rank is {rank}, and {name} has a weight of {list(weight.shape)}, which has no so many "
                f"principal parts for lora_init {start}; lower the rank, or its rank_pattern"
            )
        write_mirrored(layer, *_factors(weight, rank, start, layer.scaling[adapter]))


@torch.no_grad()
def write_mirrored(layer: Any, first_a: Tensor, first_b: Tensor) -> None:
    """Let a layer's adapter begin at B0 A0 and minus that, the second half without a gradient.

    Args:
        layer: PEFT's, whose adapter has twice the rank.
        first_a: A0 [R, D].
        first_b: B0 [E, R].
    """
    adapter = layer.active_adapters[0]
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    rank = len(first_a)
    a.copy_(torch.cat((first_a, first_a)))
    b.copy_(torch.cat((first_b, -first_b), 1))
    a.register_hook(lambda gradient: _first_rows(gradient, rank))
    b.register_hook(lambda gradient: _first_rows(gradient.T, rank).T)


def _first_rows(gradient: Tensor, rank: int) -> Tensor:
    """Return a gradient without what lies beyond the first `rank` rows."""
    first = torch.zeros_like(gradient)
    first[:rank] = gradient[:rank]
    return first


def linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the linear layers that have an adapter, by their names."""
    from peft.tuners.lora import Linear

    for name, layer in model.named_modules():
        if isinstance(layer, Linear):
            yield name, layer


def _dense(layer: Any) -> Tensor:
    """Return the weight [O, I] below an adapter in float32."""
    base = layer.get_base_layer()
    if isinstance(base, QuantizedLinear):
        return base.dense(
            torch.empty(base.shape, device=layer.lora_A[layer.active_adapters[0]].weight.device)
        )
    weight: Tensor = base.weight.float()
    return weight.T if layer.fan_in_fan_out else weight


def _factors(weight: Tensor, rank: int, start: str, scale: float) -> tuple[Tensor, Tensor]:
    """Return A0 [R, I] and B0 [O, R] as PEFT takes them from a weight."""
    if start == "olora":
        q, r = torch.linalg.qr(weight)
        return r[:rank], q[:, :rank]
    if start == "pissa":
        u, sizes, vh = torch.linalg.svd(weight, full_matrices=False)
    else:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            u, sizes, v = torch.svd_lowrank(weight, rank, niter=int(start.rpartition("_")[2]))
        vh = v.T
    root = (sizes[:rank] / scale).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


@torch.no_grad()
def begin_orthogonal(model: Any) -> None:
    """Let every adapter begin at random with orthogonal A and B, by PEFT's formula, in its own dtype.

    PEFT's code rounds both to the dtype of the weight, which may be that of packed bits.

    Raises:
        ConfigError: a rank is odd.
    """
    for number, (name, layer) in enumerate(linear_layers(model)):
        adapter = layer.active_adapters[0]
        a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        rank = len(a)
        if rank % 2:
            raise ConfigError(
                f"rank is {rank} for {name}, and lora_init orthogonal needs an even one; give another rank"
            )
        rng = torch.Generator().manual_seed(number)
        q, _ = torch.linalg.qr(torch.randn(rank, rank, generator=rng))
        inputs = torch.randn(a.shape[1], rank // 2, generator=rng)
        outputs = torch.randn(rank // 2, b.shape[0], generator=rng)
        a.copy_((inputs @ q[0::2]).T / 10)
        b.copy_(outputs.T @ q[1::2] / 10)


def begin_by_eva(model: Any, texts: Iterable[Sequence[int]]) -> None:
    """Let every adapter begin at the directions in which its inputs vary most (EVA, arXiv:2410.07170).

    B begins at zero, and ranks stay as they are set (rho 1).

    Args:
        model: a PEFT model with one LoRA adapter.
        texts: token ids that are trained on.
    """
    from peft import EvaConfig, initialize_lora_eva_weights

    device, read = next(model.parameters()).device, 0
    batches = []
    for ids in texts:
        tokens = torch.tensor([list(ids)], device=device)
        batches.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
        read += tokens.numel()
        if read >= _EVA_TOKENS:
            break
    training, (config,) = model.training, model.peft_config.values()
    before = config.init_lora_weights
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=1.0)
    model.eval()
    initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    model.train(training)
    config.init_lora_weights, config.eva_config = before, None  # what is saved has begun already
