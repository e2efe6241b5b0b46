"""Table of model families: the names of the parts of their blocks, read by `blocks.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """Names of the parts of one kind of decoder block: x + mixer(norm(x)), then x + mlp(norm(x))."""

    recurrent: str | None = None
    """Mixer that some blocks have in the attention's place: it carries a state from token to token."""
    plain_attention: bool = True
    """False if attention is more than `AttentionHalf` computes; it then runs as transformers wrote it."""
    input_norm: str = "input_layernorm"
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    """Linear layers of the attention that read the block's input, outputs in the order q, k, v."""
    o: str = "o_proj"
    mlp: str = "mlp"
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")
    """Linear layers of the MLP that read its input, outputs in the order gate, up."""
    down: str = "down_proj"
    activation: str | None = None
    """Of `ops.glu`; None if the configuration names it."""
    mlp_norm: str = "post_attention_layernorm"
    post_attention_norm: str | None = None
    """Norm of the attention's result before it is added."""
    post_mlp_norm: str | None = None
    unit_offset: bool = False
    """Norm weights are distances from one."""
    head_norms: tuple[str, ...] = ()
    """Norms of q and of k, per head, before they are rotated."""
    window_of: Literal["attention", "config"] | None = None
    """Owner of the sliding window."""
    softcap: bool = False
    """Attention scores are capped."""
    last_norm: str = "norm"
    """Norm of the decoder after its last block."""

    @property
    def hybrid(self) -> bool:
        """Whether blocks differ in their mixers."""
        return self.recurrent is not None


_HEAD_NORMS = ("q_norm", "k_norm")
_GEMMA = Family(
    mlp_norm="pre_feedforward_layernorm",
    post_attention_norm="post_attention_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
    unit_offset=True,
    window_of="attention",
    softcap=True,
)

BLOCK_FAMILIES = {
    "LlamaDecoderLayer": Family(),
    "MistralDecoderLayer": Family(window_of="config"),
    "Qwen2DecoderLayer": Family(window_of="attention"),
    "Qwen3DecoderLayer": Family(window_of="attention", head_norms=_HEAD_NORMS),
    "Phi3DecoderLayer": Family(qkv=("qkv_proj",), gate_up=("gate_up_proj",), window_of="config"),
    "Gemma2DecoderLayer": _GEMMA,
    "Gemma3DecoderLayer": Family(
        mlp_norm=_GEMMA.mlp_norm,
        post_attention_norm=_GEMMA.post_attention_norm,
        post_mlp_norm=_GEMMA.post_mlp_norm,
        unit_offset=True,
        window_of="attention",
        head_norms=_HEAD_NORMS,
    ),
    "Qwen3_5DecoderLayer": Family(recurrent="linear_attn", plain_attention=False, unit_offset=True),
    "Lfm2DecoderLayer": Family(
        recurrent="conv",
        input_norm="operator_norm",
        o="out_proj",
        head_norms=("q_layernorm", "k_layernorm"),
        mlp="feed_forward",
        gate_up=("w1", "w3"),
        down="w2",
        activation="silu",
        mlp_norm="ffn_norm",
        last_norm="embedding_norm",
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
