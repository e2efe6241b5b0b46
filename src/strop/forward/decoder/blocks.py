"""Reads transformers' decoder blocks into strop's halves; the blocks themselves stay as they are."""

from typing import Any

from transformers.activations import ACT2FN

from strop.core.spill import Spill
from strop.forward.decoder import adapters, modified
from strop.forward.decoder.block_families import ACTIVATIONS, FAMILIES, Family
from strop.layers.attention_half import Attended, AttentionHalf
from strop.layers.block import Block
from strop.layers.mlp_half import MlpHalf
from strop.layers.norm import Norm
from strop.ops.lora_linear.parts import Workspace


def all_known(decoder: Any) -> bool:
    """Say whether every block of a decoder is of a known family."""
    found = getattr(decoder, "layers", None) or ()
    return len(found) > 0 and {type(block).__name__ for block in found} <= FAMILIES.keys()


def obstacle(block: Any, *, rebound_norms: bool = False) -> str | None:
    """Say why a decoder block runs as transformers wrote it, or None if strop's halves serve it.

    `rebound_norms` lets a norm count by its class although its forward was bound anew.
    """
    family = FAMILIES.get(type(block).__name__)
    if family is None:
        return f"{type(block).__name__} is not a known kind of block"
    attention, mlp = block.self_attn, block.mlp
    norms = _norms(block, family)
    if any(p.requires_grad for norm in norms for p in norm.parameters()):
        return "its norms are trained"
    originals = [modified.is_original(part) for part in (block, attention, mlp)]
    originals += [modified.is_original(norm, rebound=rebound_norms) for norm in norms]
    if not all(originals):
        part = [block, attention, mlp, *norms][originals.index(False)]
        return f"{type(part).__name__} is not as transformers wrote it"
    if activation_of(block) is None or not _activates_as_configured(block):
        return f"the activation of {type(block.mlp).__name__} is not known"
    if block.training and _dropouts(block):
        return "it drops activations at random"
    if getattr(attention, "is_causal", True) is False:
        return "its attention is not causal"
    linears = [getattr(attention, n) for n in (*family.qkv, "o_proj")]
    linears += [getattr(mlp, n) for n in (*family.gate_up, "down_proj")]
    for linear in linears:
        if (why := adapters.obstacle(linear)) is not None:
            return f"one of its linear layers cannot be taken apart: {why}"
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
    return "it carries forward hooks" if hooked else None


def _activates_as_configured(block: Any) -> bool:
    """Say whether the MLP's activation is still the one that the configuration names."""
    config = block.self_attn.config
    name = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    function = getattr(block.mlp, "act_fn", None) or getattr(block.mlp, "activation_fn", None)
    return type(function) is type(ACT2FN[name]) and not vars(function).get("forward")


def activation_of(block: Any) -> str | None:
    """Return the name `ops.glu` has for the block's activation, or None."""
    config = block.self_attn.config
    name = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    return ACTIVATIONS.get(str(name))


def read(block: Any, attended: Attended, workspace: Workspace, spill: Spill | None) -> Block:
    """Read a block that has no obstacle, as it is now."""
    family = FAMILIES[type(block).__name__]
    activation = activation_of(block)
    assert activation is not None
    mlp = MlpHalf(
        norm=_norm(getattr(block, family.mlp_norm), family),
        gate_up=tuple(adapters.read(getattr(block.mlp, n)) for n in family.gate_up),
        down=adapters.read(block.mlp.down_proj),
        activation=activation,
        post_norm=_maybe(block, family.post_mlp_norm, family),
        workspace=workspace,
    )
    return Block(_attention(block, family, attended, workspace), mlp, spill)


def last_norm(decoder: Any) -> Norm | None:
    """Read the norm after the last block, or None where it is of another kind than the blocks' own."""
    block, norm = decoder.layers[-1], decoder.norm
    family = FAMILIES.get(type(block).__name__)
    known = modified.is_original(norm) and type(norm).__name__.endswith("RMSNorm")
    if family is None or not known or type(norm) is not type(block.input_layernorm):
        return None
    return _norm(norm, family)


def _attention(
    block: Any, family: Family, attended: Attended, workspace: Workspace
) -> AttentionHalf:
    module, config = block.self_attn, block.self_attn.config
    window = None
    if family.window_of is not None:
        window = (module if family.window_of == "attention" else config).sliding_window
    return AttentionHalf(
        norm=_norm(block.input_layernorm, family),
        qkv=tuple(adapters.read(getattr(module, n)) for n in family.qkv),
        o=adapters.read(module.o_proj),
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        features=module.head_dim,
        scale=module.scaling,
        window=window,
        softcap=module.attn_logit_softcapping if family.softcap else None,
        q_norm=_norm(module.q_norm, family) if family.head_norms else None,
        k_norm=_norm(module.k_norm, family) if family.head_norms else None,
        post_norm=_maybe(block, family.post_attention_norm, family),
        attended=attended,
        workspace=workspace,
    )


def _norm(norm: Any, family: Family) -> Norm:
    """Read an RMS norm of transformers."""
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return Norm(norm.weight, float(eps), family.unit_offset)


def _maybe(block: Any, name: str | None, family: Family) -> Norm | None:
    return None if name is None else _norm(getattr(block, name), family)


def _norms(block: Any, family: Family) -> list[Any]:
    names = ["input_layernorm", family.mlp_norm, family.post_attention_norm, family.post_mlp_norm]
    found = [getattr(block, name) for name in names if name is not None]
    return found + ([block.self_attn.q_norm, block.self_attn.k_norm] if family.head_norms else [])


def _dropouts(block: Any) -> bool:
    shares = [block.self_attn.attention_dropout]
    shares += [getattr(block.self_attn.config, "resid_pdrop", 0.0)]
    return any(share > 0 for share in shares)
