"""Transformers' decoder blocks, read into strop's halves; the blocks themselves stay as they are."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from strop.core.system.spill import Spill
from strop.forward.compaction import CompactBatch
from strop.forward.decoder import adapters, modified
from strop.forward.decoder.block_families import ACTIVATIONS, BLOCK_FAMILIES, Family
from strop.forward.decoder.mixers import MixerHalf
from strop.layers.attention_half import Attended, AttentionHalf
from strop.layers.block import Block
from strop.layers.mlp_half import MlpHalf
from strop.layers.norm import Norm
from strop.ops.lora_linear.parts import Workspace


def all_known(decoder: Any) -> bool:
    """Return whether every block of a decoder is of a known family."""
    layers = getattr(decoder, "layers", None) or ()
    return len(layers) > 0 and {type(block).__name__ for block in layers} <= BLOCK_FAMILIES.keys()


def obstacle(block: Any, *, rebound_norms: bool = False, trainable: bool = False) -> str | None:
    """Return why a decoder block runs as transformers wrote it, or None if strop's halves serve it.

    `rebound_norms` lets a norm count by its class although its forward was re-bound. `trainable` lets
    weights beneath an adapter be trained, where nothing is differentiated.
    """
    family = BLOCK_FAMILIES.get(type(block).__name__)
    if family is None:
        return f"{type(block).__name__} is not a known kind of block"
    attention, mlp = _plain_attention(block, family), getattr(block, family.mlp)
    norms = _norms(block, family)
    modules = [block, mlp] if attention is None else [block, attention, mlp]
    originals = [modified.is_original(module) for module in modules]
    originals += [modified.is_original(norm, rebound=rebound_norms) for norm in norms]
    if not all(originals):
        part = [*modules, *norms][originals.index(False)]
        return f"{type(part).__name__} is not as transformers wrote it"
    if activation_of(block) is None or not _activates_as_configured(mlp, family):
        return f"the activation of {type(mlp).__name__} is not known"
    if attention is not None and block.training and _drops_out(attention):
        return "it drops activations at random"
    if getattr(attention, "is_causal", True) is False:
        return "its attention is not causal"
    linears = [getattr(mlp, n) for n in (*family.gate_up, family.down)]
    if attention is not None:
        linears += [getattr(attention, n) for n in (*family.qkv, family.o)]
    for linear in linears:
        if (why := adapters.obstacle(linear, trainable=trainable)) is not None:
            return f"one of its linear layers cannot be read: {why}"
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
    return "it carries forward hooks" if hooked else None


def _plain_attention(block: Any, family: Family) -> Any:
    """Return the module that `AttentionHalf` stands for, or None where a `MixerHalf` runs."""
    if not family.plain_attention:
        return None
    return getattr(block, "self_attn", None)


def _activation_name(config: Any) -> str | None:
    name = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return None if name is None else str(name)


def _activates_as_configured(mlp: Any, family: Family) -> bool:
    """Return whether the MLP's activation is still the one that the configuration names."""
    if family.activation is not None:
        return True
    function = getattr(mlp, "act_fn", None) or getattr(mlp, "activation_fn", None)
    return type(function) is type(ACT2FN[_activation_name(mlp.config)]) and not vars(function).get(
        "forward"
    )


def activation_of(block: Any) -> str | None:
    """Return the name `ops.glu` has for the block's activation, or None."""
    family = BLOCK_FAMILIES[type(block).__name__]
    if family.activation is not None:
        return family.activation
    return ACTIVATIONS.get(str(_activation_name(getattr(block, family.mlp).config)))


def read(
    block: Any,
    batch: CompactBatch,
    angles: tuple[Tensor, Tensor],
    workspace: Workspace,
    spill: Spill | None,
) -> Block:
    """Read a block that has no obstacle, as it is now.

    Args:
        block: of a known family.
        batch: N tokens.
        angles: cosines and sines [1, N, 2 P] of their positions.
        workspace: buffers shared by all blocks.
        spill: where the block's input goes, or None.
    """
    family = BLOCK_FAMILIES[type(block).__name__]
    module, activation = getattr(block, family.mlp), activation_of(block)
    assert activation is not None
    mlp = MlpHalf(
        norm=_norm(getattr(block, family.mlp_norm), family),
        gate_up=tuple(adapters.read(getattr(module, n)) for n in family.gate_up),
        down=adapters.read(getattr(module, family.down)),
        activation=activation,
        post_norm=_maybe(block, family.post_mlp_norm, family),
        workspace=workspace,
    )
    if _plain_attention(block, family) is None:
        return Block(_mixer(block, family, batch, angles), mlp, spill)
    cos, sin = angles
    P = cos.shape[-1] // 2
    attended = Attended(batch.segments, cos[0, :, :P], sin[0, :, :P])
    return Block(_attention(block, family, attended, workspace), mlp, spill)


def last_norm(decoder: Any) -> nn.Module:
    """Return the norm after the last block of a decoder whose blocks are all of known families."""
    norm: nn.Module = getattr(decoder, BLOCK_FAMILIES[type(decoder.layers[-1]).__name__].last_norm)
    return norm


def read_last_norm(decoder: Any) -> Norm | None:
    """Read the norm after the last block, or None where it is of another kind than the blocks' own."""
    block, norm = decoder.layers[-1], adapters.in_use(last_norm(decoder))
    family = BLOCK_FAMILIES[type(block).__name__]
    known = modified.is_original(norm) and type(norm).__name__.endswith("RMSNorm")
    if not known or type(norm) is not type(adapters.in_use(getattr(block, family.input_norm))):
        return None
    return _norm(norm, family)


def _mixer(
    block: Any, family: Family, batch: CompactBatch, angles: tuple[Tensor, Tensor]
) -> MixerHalf:
    recurrent = family.recurrent is not None and hasattr(block, family.recurrent)
    kind = angles[0].device.type
    return MixerHalf(
        norm=getattr(block, family.input_norm),
        mixer=getattr(block, str(family.recurrent) if recurrent else "self_attn"),
        recurrent=recurrent,
        segments=batch.segments,
        positions=batch.positions,
        angles=angles,
        autocast=(torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)),
    )


def _attention(
    block: Any, family: Family, attended: Attended, workspace: Workspace
) -> AttentionHalf:
    module, config = block.self_attn, block.self_attn.config
    window = None
    if family.window_of is not None:
        window = (module if family.window_of == "attention" else config).sliding_window
    q_norm, k_norm = _head_norms(block, family) or (None, None)
    return AttentionHalf(
        norm=_norm(getattr(block, family.input_norm), family),
        qkv=tuple(adapters.read(getattr(module, n)) for n in family.qkv),
        o=adapters.read(getattr(module, family.o)),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        features=module.head_dim,
        scale=module.scaling,
        window=window,
        softcap=module.attn_logit_softcapping if family.softcap else None,
        q_norm=None if q_norm is None else _norm(q_norm, family),
        k_norm=None if k_norm is None else _norm(k_norm, family),
        post_norm=_maybe(block, family.post_attention_norm, family),
        attended=attended,
        workspace=workspace,
    )


def _norm(norm: Any, family: Family) -> Norm:
    """Read an RMS norm of transformers."""
    norm = adapters.in_use(norm)
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return Norm(norm.weight, float(eps), family.unit_offset)


def _maybe(block: Any, name: str | None, family: Family) -> Norm | None:
    return None if name is None else _norm(getattr(block, name), family)


def _head_norms(block: Any, family: Family) -> list[Any]:
    return [getattr(block.self_attn, name) for name in family.head_norms]


def _norms(block: Any, family: Family) -> list[Any]:
    """Return the norms whose weights are read in place of their forward."""
    names = [family.mlp_norm, family.post_mlp_norm]
    if _plain_attention(block, family) is None:
        return [adapters.in_use(getattr(block, name)) for name in names if name is not None]
    names += [family.input_norm, family.post_attention_norm]
    return [
        *(adapters.in_use(getattr(block, name)) for name in names if name is not None),
        *map(adapters.in_use, _head_norms(block, family)),
    ]


def _drops_out(attention: Any) -> bool:
    shares = [getattr(attention, "attention_dropout", 0.0)]
    shares += [getattr(attention.config, "resid_pdrop", 0.0)]
    return any(share > 0 for share in shares)
