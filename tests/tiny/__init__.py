"""Tiny random models of every known family, and batches for them."""

import functools

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

COMMON = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_dropout": 0.0,
}
FAMILIES = {
    "llama": ("LlamaConfig", {}),
    "llama3": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("MistralConfig", {"sliding_window": 24, "head_dim": 16}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "phi3": ("Phi3Config", {"partial_rotary_factor": 0.5}),
    "gemma2": (
        "Gemma2Config",
        {"head_dim": 16, "sliding_window": 24, "query_pre_attn_scalar": 16},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {
            "head_dim": 16,
            "sliding_window": 24,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3.5": (
        "Qwen3_5TextConfig",
        {
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 12,
        },
    ),
    "lfm2": (
        "Lfm2Config",
        {
            "layer_types": ["conv", "full_attention", "conv"],
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": True,
        },
    ),
}
HYBRID = ("qwen3.5", "lfm2")
"""Families with blocks that carry a state from token to token."""
MIXTURES = {
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {
            "head_dim": 16,
            "moe_intermediate_size": 24,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
        },
    ),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2}),
    "gpt_oss": (
        "GptOssConfig",
        {
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
}
"""Families with experts in each block, or in most."""
UNKNOWN = {
    "olmo2": ("Olmo2Config", {}),  # norms after the blocks; strop has no row for it
    "granite": ("GraniteConfig", {"logits_scaling": 4.0, "residual_multiplier": 0.7}),
}


def model(family, *, dtype=torch.float64, lora=True, attention="exact", sizes=None, **peft):
    """Build the family's causal language model with random weights and a LoRA adapter not at zero."""
    transformers.AttentionInterface.register("exact", exact_attention)
    AttentionMaskInterface.register("exact", sdpa_mask)
    name, special = (FAMILIES | MIXTURES | UNKNOWN)[family]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**(COMMON | special | (sizes or {})))
    base = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(
        dtype
    )
    for parameter in base.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    if dtype == torch.float64:
        widen(base)
    if not lora:
        return base
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(base, LoraConfig(**(settings | peft)), autocast_adapter_dtype=False)
    for parameter_name, parameter in tuned.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    return tuned.to(dtype)


def exact_attention(module, query, key, value, attention_mask, **settings):
    """Attend causally, not to padding; transformers' eager form rounds its softmax to float32."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = query @ key.mT * settings["scaling"]
    if settings.get("softcap") is not None:
        scores = settings["softcap"] * torch.tanh(scores / settings["softcap"])
    place = torch.arange(query.shape[2])
    gap = place[:, None] - place[None, :]
    hidden = gap < 0
    if settings.get("sliding_window") is not None:
        hidden |= gap >= settings["sliding_window"]
    if attention_mask is not None:  # [B, 1, T, T] of booleans; padding sees itself alone
        hidden = (hidden | ~attention_mask) & (gap != 0)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2), None


def widen(model):
    """Let norms, angles and delta nets be float64 too: transformers rounds them to float32."""
    for module in model.modules():
        name = type(module).__name__
        if name.endswith("RMSNorm"):
            offset = 1.0 if name.startswith(("Gemma", "Qwen3_5")) else 0.0
            eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
            module.forward = functools.partial(_norm, module, offset, eps)
        elif name.endswith("RotaryEmbedding"):
            module.forward = functools.partial(_angles, module)
        elif name.endswith("GatedDeltaNet"):
            module.forward = functools.partial(_delta_net, module)
    return model


def _norm(module, offset, eps, x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * (offset + module.weight)


def _delta_net(module, hidden_states, attention_mask=None, **_):
    """Gated delta net (Yang et al. 2024, arXiv:2412.06464), token by token, in the dtype of its input."""
    B, T, _ = hidden_states.shape
    if attention_mask is not None:
        hidden_states = hidden_states * attention_mask[..., None]
    mixed = F.silu(module.conv1d(module.in_proj_qkv(hidden_states).mT)[..., :T]).mT
    widths = [module.key_dim, module.key_dim, module.value_dim]
    q, k, v = (part.view(B, T, -1, C) for part, C in zip(
        mixed.split(widths, -1), (module.head_k_dim, module.head_k_dim, module.head_v_dim), strict=True
    ))  # fmt: skip
    groups = module.num_v_heads // module.num_k_heads
    q, k = (
        (t * torch.rsqrt(t.square().sum(-1, keepdim=True) + 1e-6)).repeat_interleave(groups, 2)
        for t in (q, k)
    )
    beta = module.in_proj_b(hidden_states).sigmoid()
    step = F.softplus(module.in_proj_a(hidden_states) + module.dt_bias)
    decay = (-module.A_log.exp() * step).exp()
    state, rows = q.new_zeros(B, module.num_v_heads, module.head_k_dim, module.head_v_dim), []
    for t in range(T):
        state = state * decay[:, t, :, None, None]
        delta = (v[:, t] - (state * k[:, t, ..., None]).sum(-2)) * beta[:, t, :, None]
        state = state + k[:, t, ..., None] * delta[..., None, :]
        rows.append((state * q[:, t, ..., None]).sum(-2) * module.head_k_dim**-0.5)
    gate = module.in_proj_z(hidden_states).view(B, T, -1, module.head_v_dim)
    norm = module.norm
    normed = _norm(norm, 0.0, norm.variance_epsilon, torch.stack(rows, 1)) * F.silu(gate)
    return module.out_proj(normed.flatten(2))


_delta_net.__module__ = "transformers.models.qwen3_5.modeling_qwen3_5"  # whose place it takes


def _angles(module, x, position_ids, layer_type=None):
    if position_ids.ndim == 3:  # time, height and width, which are the same for text
        position_ids = position_ids[0]
    prefix = "" if layer_type is None else f"{layer_type}_"
    frequencies = getattr(module, f"{prefix}inv_freq").double()
    scaling = getattr(module, f"{prefix}attention_scaling")
    angles = position_ids[..., None].double() * frequencies
    half = type(module).__name__.startswith("GptOss")
    both = angles if half else torch.cat([angles, angles], -1)
    return (both.cos() * scaling).to(x.dtype), (both.sin() * scaling).to(x.dtype)


def batch(*, side="right", lengths=(60, 7, 33, 60, 12), prompt=None, shared=0, seed=0, vocab=211):
    """Return input_ids, attention_mask and labels of rows of random tokens, padded on one side."""
    rng = torch.Generator().manual_seed(seed)
    T = max(lengths) + 3
    ids = torch.zeros(len(lengths), T, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    prefix = torch.randint(3, vocab, (max(shared, 1),), generator=rng)
    for b, n in enumerate(lengths):
        row = torch.randint(3, vocab, (n,), generator=rng)
        row[: min(shared, n)] = prefix[: min(shared, n)]
        at = slice(0, n) if side == "right" else slice(T - n, T)
        ids[b, at], mask[b, at] = row, 1
        first = (n // 2 if prompt is None else prompt) if n > 1 else 0
        labels[b, at.start + first : at.stop] = row[first:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
