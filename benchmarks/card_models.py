"""Configurations of models that people fine-tune on a card, written from what is published of them."""

from typing import Any

CONTEXT = 1 << 22
"""Positions allowed; a longer row than a model was made for needs the same memory."""


def config(kind: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """Return a configuration: vocabulary, width, MLP, blocks, heads, heads of keys; and what differs."""
    vocabulary, width, inner, blocks, heads, key_heads = sizes
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "use_cache": False,
        "pad_token_id": None,
    } | more


MODELS = {
    "Llama-3-8B": config("llama", (128256, 4096, 14336, 32, 32, 8)),
    "Mistral-7B": config("mistral", (32768, 4096, 14336, 32, 32, 8), sliding_window=None),
    "Phi-4-14B": config("phi3", (100352, 5120, 17920, 40, 40, 10), sliding_window=None),
    "Gemma-2-9B": config(
        "gemma2", (256000, 3584, 14336, 42, 16, 8), head_dim=256, sliding_window=4096,
        tie_word_embeddings=True,
    ),
    "Qwen2.5-7B": config("qwen2", (152064, 3584, 18944, 28, 28, 4)),
    "Qwen2.5-32B": config("qwen2", (152064, 5120, 27648, 64, 40, 8)),
}  # fmt: skip
