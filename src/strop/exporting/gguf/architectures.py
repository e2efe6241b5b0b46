"""GGUF layouts of model families: names, numbers, and what is stored otherwise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gguf import MODEL_ARCH, RopeScalingType, TensorNameMap, get_tensor_name_map
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.exporting.weights.rotary import head_size


@dataclass(frozen=True, slots=True)
class GgufArchitecture:
    """One architecture of llama.cpp."""

    arch: MODEL_ARCH
    permuted: bool = False
    """Rows of q and k are stored in pairs, as Meta's code rotates them."""
    unit_offset: bool = False
    """transformers holds norm weights as distances from one."""
    mlp_norm: str = "post_attention_layernorm"
    """The norm before the MLP."""
    softcaps: bool = False
    windows: int = 0
    """Every so many-th layer attends to everything, the others to a window; 0: all do."""


GGUF_ARCHITECTURES = {
    "llama": GgufArchitecture(MODEL_ARCH.LLAMA, permuted=True),
    "mistral": GgufArchitecture(MODEL_ARCH.LLAMA, permuted=True),
    "qwen2": GgufArchitecture(MODEL_ARCH.QWEN2),
    "qwen3": GgufArchitecture(MODEL_ARCH.QWEN3),
    "phi3": GgufArchitecture(MODEL_ARCH.PHI3),
    "gemma2": GgufArchitecture(
        MODEL_ARCH.GEMMA2,
        unit_offset=True,
        mlp_norm="pre_feedforward_layernorm",
        softcaps=True,
        windows=2,
    ),
    "gemma3_text": GgufArchitecture(
        MODEL_ARCH.GEMMA3, unit_offset=True, mlp_norm="pre_feedforward_layernorm", windows=6
    ),
}
"""Architectures by `model_type` of transformers."""


def architecture_of(config: Any) -> GgufArchitecture:
    """Return the architecture by which a model is laid out in GGUF.

    Raises:
        UnsupportedError: its family, or a setting of it, has no layout here.
    """
    family = GGUF_ARCHITECTURES.get(config.model_type)
    if family is None:
        raise UnsupportedError(
            f"models of the family {config.model_type!r} cannot be written as GGUF; known are "
            f"{', '.join(GGUF_ARCHITECTURES)}. Export --to merged and use that folder"
        )
    if family.windows:
        _check_gemma(config, family)
    return family


def _check_gemma(config: Any, family: GgufArchitecture) -> None:
    """Refuse what llama.cpp would compute otherwise, for it has these as constants."""
    expected = [
        "full_attention" if (i + 1) % family.windows == 0 else "sliding_attention"
        for i in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != expected:
        raise UnsupportedError(
            f"llama.cpp lets every {family.windows}th layer of {config.model_type} attend to "
            "everything and the others to a window; this model has another order"
        )
    if config.query_pre_attn_scalar != config.head_dim:
        raise UnsupportedError(
            f"llama.cpp scales queries of {config.model_type} by 1/sqrt(head_dim={config.head_dim}); "
            f"this model has query_pre_attn_scalar={config.query_pre_attn_scalar}"
        )


def names(config: Any) -> TensorNameMap:
    """Return the map from transformers' tensor names to GGUF's."""
    return get_tensor_name_map(architecture_of(config).arch, config.num_hidden_layers)


def named(known: TensorNameMap, name: str) -> str | None:
    """Return GGUF's name of a weight, None where the language model has no such weight.

    Args:
        known: what `names` returned.
        name: in memory; beside an image encoder the language model is a part of the model.
    """
    text = name.replace("model.language_model.", "model.", 1)
    return known.get_name(text, try_suffixes=(".weight", ".bias"))


def of_images(name: str) -> bool:
    """Return whether a weight belongs to an image encoder beside a language model."""
    return any(part in name for part in ("vision_tower.", "multi_modal_projector.", ".visual."))


def permuted_heads(config: Any, name: str) -> int:
    """Return in how many heads the rows of a tensor are to be permuted, 0 for none."""
    if not GGUF_ARCHITECTURES[config.model_type].permuted:
        return 0
    if ".q_proj." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".k_proj." in name else 0


def metadata(config: Any) -> dict[str, Any]:
    """Return the fields of an architecture, without its name before them.

    Raises:
        UnsupportedError: llama.cpp would compute something else.
    """
    family = architecture_of(config)
    head = head_size(config)
    rope, local = _rope_parameters(config)
    fields: dict[str, Any] = {
        "context_length": _context(config, family),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": head,
        "attention.value_length": head,
        "vocab_size": config.vocab_size,
        "rope.dimension_count": int(head * rope.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if family.windows:
        fields["attention.sliding_window"] = config.sliding_window
    elif config.model_type == "phi3":
        fields["attention.sliding_window"] = 0
    if family.softcaps:
        fields["attn_logit_softcapping"] = float(config.attn_logit_softcapping or 0)
        fields["final_logit_softcapping"] = float(config.final_logit_softcapping or 0)
    elif getattr(config, "final_logit_softcapping", None):
        raise UnsupportedError("llama.cpp has no soft-cap of the logits for this family")
    if local is not None:
        fields["rope.freq_base_swa"] = float(local["rope_theta"])
    return fields | _scaling(config, rope)


def _rope_parameters(config: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the rotary settings, and those of layers with a window where they have their own."""
    parameters = dict(config.rope_parameters)
    if "full_attention" in parameters:
        return dict(parameters["full_attention"]), dict(parameters["sliding_attention"])
    return parameters, None


def _context(config: Any, family: GgufArchitecture) -> int:
    """Return how long a context may be and still be computed as transformers does.

    llama.cpp has no sliding window for these families but Gemma's; within one window both agree.
    """
    window = None if family.windows else getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True)
    if window and slides:
        return int(min(window, config.max_position_embeddings))
    return int(config.max_position_embeddings)


def _scaling(config: Any, rope: dict[str, Any]) -> dict[str, Any]:
    kind = rope.get("rope_type", "default")
    if kind in ("default", "llama3"):
        return {}
    scaling = {"rope.scaling.type": RopeScalingType.LINEAR.value}
    if kind == "linear":
        return {**scaling, "rope.scaling.factor": float(rope["factor"])}
    original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
    if kind == "yarn":
        return {
            "rope.scaling.type": RopeScalingType.YARN.value,
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": int(original),
        }
    if kind == "longrope":
        longer = config.max_position_embeddings / original
        attention = math.sqrt(1 + math.log(longer) / math.log(original)) if longer > 1 else 1.0
        return {
            "rope.scaling.attn_factor": float(rope.get("attention_factor") or attention),
            "rope.scaling.original_context_length": int(original),
        }
    raise UnsupportedError(f"the rotary scaling {kind!r} cannot be written as GGUF")


def rotary_tensors(config: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that llama.cpp divides rotary frequencies by, where a model has any."""
    rope, _ = _rope_parameters(config)
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        yield "rope_freqs.weight", _llama3_factors(rope, head_size(config))
    elif kind == "longrope":
        yield "rope_factors_long.weight", torch.tensor(rope["long_factor"], dtype=torch.float32)
        yield "rope_factors_short.weight", torch.tensor(rope["short_factor"], dtype=torch.float32)


def _llama3_factors(rope: dict[str, Any], head: int) -> Tensor:
    """Return by how much each frequency is lowered: not at all, wholly, or by a smooth share."""
    frequencies = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).float()
