"""What differs between model families, as rows of one table; the code that reads it is `blocks.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """Where one kind of decoder block keeps its parts."""

    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    """Linear layers of the attention that read the block's input, outputs in the order q, k, v."""
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")
    """Linear layers of the MLP that read its input, outputs in the order gate, up."""
    mlp_norm: str = "post_attention_layernorm"
    post_attention_norm: str | None = None
    """Norm of the attention's result before it is added."""
    post_mlp_norm: str | None = None
    unit_offset: bool = False
    """Norm weights are distances from one."""
    head_norms: bool = False
    """q and k are normalised per head before they are rotated."""
    window_of: Literal["attention", "config"] | None = None
    """Who knows the sliding window."""
    softcap: bool = False
    """Attention scores are capped."""


_GEMMA = Family(
    mlp_norm="pre_feedforward_layernorm",
    post_attention_norm="post_attention_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
    unit_offset=True,
    window_of="attention",
    softcap=True,
)

FAMILIES = {
    "LlamaDecoderLayer": Family(),
    "MistralDecoderLayer": Family(window_of="config"),
    "Qwen2DecoderLayer": Family(window_of="attention"),
    "Qwen3DecoderLayer": Family(window_of="attention", head_norms=True),
    "Phi3DecoderLayer": Family(qkv=("qkv_proj",), gate_up=("gate_up_proj",), window_of="config"),
    "Gemma2DecoderLayer": _GEMMA,
    "Gemma3DecoderLayer": Family(
        mlp_norm=_GEMMA.mlp_norm,
        post_attention_norm=_GEMMA.post_attention_norm,
        post_mlp_norm=_GEMMA.post_mlp_norm,
        unit_offset=True,
        window_of="attention",
        head_norms=True,
    ),
}
"""By the class name of the block in transformers."""

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
}
"""transformers' names of activations, and those of `ops.glu`."""
