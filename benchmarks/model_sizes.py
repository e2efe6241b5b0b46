"""Write src/strop/planning/model_sizes.json: models people know, and the memory they need.

Two depths of each model are simulated and the rest follows in a straight line, as all blocks of a
model are alike. `python benchmarks/model_sizes.py NAME...` writes some anew and leaves the others.
"""

import sys
from pathlib import Path
from typing import Any

import card_models
from card_models import config

from strop.core.files import read_json, write_json
from strop.planning import Setup, simulate
from strop.planning.fitting import TOKENS

TABLE = Path(__file__).parent.parent / "src" / "strop" / "planning" / "model_sizes.json"
DEPTHS = (2, 3)


TIED = {"tie_word_embeddings": True}
GEMMA_3 = {"head_dim": 256, "sliding_window": 512, **TIED}
MODELS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "smollm2-135m-instruct": (
        "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", "chatml",
        config("llama", (49152, 576, 1536, 30, 9, 3), **TIED),
    ),
    "gemma-3-270m": (
        "google/gemma-3-270m", "gemma", "gemma",
        config("gemma3_text", (262144, 640, 2048, 18, 4, 1), **GEMMA_3),
    ),
    "qwen2.5-coder-0.5b-instruct": (
        "Qwen/Qwen2.5-Coder-0.5B-Instruct", "apache-2.0", "qwen2_5",
        config("qwen2", (151936, 896, 4864, 24, 14, 2), **TIED),
    ),
    "Qwen3-0.6B": (
        "Qwen/Qwen3-0.6B", "apache-2.0", "qwen3",
        config("qwen3", (151936, 1024, 3072, 28, 16, 8), head_dim=128, **TIED),
    ),
    "Gemma-3-1B": (
        "google/gemma-3-1b-it", "gemma", "gemma",
        config("gemma3_text", (262144, 1152, 6912, 26, 4, 1), **GEMMA_3),
    ),
    "Llama-3.2-1B": (
        "meta-llama/Llama-3.2-1B-Instruct", "llama3.2", "llama3_1",
        config("llama", (128256, 2048, 8192, 16, 32, 8), head_dim=64, **TIED),
    ),
    "Gemma-2-2B": (
        "google/gemma-2-2b-it", "gemma", "gemma",
        config("gemma2", (256000, 2304, 9216, 26, 8, 4), head_dim=256, sliding_window=4096, **TIED),
    ),
    "Qwen2.5-3B": (
        "Qwen/Qwen2.5-3B-Instruct", "qwen-research", "qwen2_5",
        config("qwen2", (151936, 2048, 11008, 36, 16, 2), **TIED),
    ),
    "Llama-3.2-3B": (
        "meta-llama/Llama-3.2-3B-Instruct", "llama3.2", "llama3_1",
        config("llama", (128256, 3072, 8192, 28, 24, 8), head_dim=128, **TIED),
    ),
    "Qwen3-4B": (
        "Qwen/Qwen3-4B", "apache-2.0", "qwen3",
        config("qwen3", (151936, 2560, 9728, 36, 32, 8), head_dim=128, **TIED),
    ),
    "Mistral-7B": (
        "mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0", "mistral_v3",
        card_models.MODELS["Mistral-7B"],
    ),
    "Qwen2.5-7B": (
        "Qwen/Qwen2.5-7B-Instruct", "apache-2.0", "qwen2_5", card_models.MODELS["Qwen2.5-7B"]
    ),
    "Llama-3-8B": (
        "meta-llama/Llama-3.1-8B-Instruct", "llama3.1", "llama3_1", card_models.MODELS["Llama-3-8B"]
    ),
    "Qwen3-8B": (
        "Qwen/Qwen3-8B", "apache-2.0", "qwen3",
        config("qwen3", (151936, 4096, 12288, 36, 32, 8), head_dim=128),
    ),
    "Gemma-2-9B": ("google/gemma-2-9b-it", "gemma", "gemma", card_models.MODELS["Gemma-2-9B"]),
    "Phi-4-14B": ("microsoft/phi-4", "mit", "phi4", card_models.MODELS["Phi-4-14B"]),
    "Qwen2.5-32B": (
        "Qwen/Qwen2.5-32B-Instruct", "apache-2.0", "qwen2_5", card_models.MODELS["Qwen2.5-32B"]
    ),
}  # fmt: skip
"""Id on the hub, licence there, family of the template; configuration, from what is published."""
_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings", "model_type"),
)  # fmt: skip
"""Entries of a configuration from which sizes follow."""


def peak(config: dict[str, Any], bits: int) -> int:
    """Return the bytes at the peak of a step on one row of `TOKENS` tokens."""
    setups = (
        Setup(
            config={**config, "num_hidden_layers": depth, "layer_types": None},
            rows=(TOKENS,),
            bits=bits,  # type: ignore[arg-type]
            dtype="bfloat16",
            activations="checkpoint",
        )
        for depth in DEPTHS
    )
    low, high = (step.peak for step in simulate(*setups))
    return low + (high - low) * (config["num_hidden_layers"] - DEPTHS[0])


if __name__ == "__main__":
    known = read_json(TABLE)
    for name in sys.argv[1:] or MODELS:
        hub, license, template, config_of = MODELS[name]
        known[name] = {
            "hub": hub,
            "license": license,
            "template": template,
            "config": {key: config_of[key] for key in _SIZES if key in config_of},
            "training": {str(bits): peak(config_of, bits) for bits in (4, 16)},
        }
    write_json(TABLE, {name: known[name] for name in MODELS if name in known})
