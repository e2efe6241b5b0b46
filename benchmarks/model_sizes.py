"""Write src/strop/planning/model_sizes.json: the memory of a training step of models people know.

Two depths of each model are simulated and the rest follows in a straight line, as all blocks of a
model are alike.
"""

from pathlib import Path
from typing import Any

import card_models
from card_models import config

from strop.core.files import write_json
from strop.planning import Setup, simulate
from strop.planning.fitting import TOKENS

TABLE = Path(__file__).parent.parent / "src" / "strop" / "planning" / "model_sizes.json"
DEPTHS = (2, 3)


TIED = {"tie_word_embeddings": True}
MODELS = {
    "smollm2-135m-instruct": config("llama", (49152, 576, 1536, 30, 9, 3), **TIED),
    "gemma-3-270m": config(
        "gemma3_text", (262144, 640, 2048, 18, 4, 1), head_dim=256, sliding_window=512, **TIED
    ),
    "qwen2.5-coder-0.5b-instruct": config("qwen2", (151936, 896, 4864, 24, 14, 2), **TIED),
    "Llama-3.2-1B": config("llama", (128256, 2048, 8192, 16, 32, 8), head_dim=64, **TIED),
    "Qwen2.5-3B": config("qwen2", (151936, 2048, 11008, 36, 16, 2), **TIED),
    **{
        name: card_models.MODELS[name]
        for name in ("Qwen2.5-7B", "Llama-3-8B", "Phi-4-14B", "Qwen2.5-32B")
    },
}
"""Configurations, written from what is published of the models."""


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
    sizes = {
        name: {str(bits): peak(config, bits) for bits in (4, 16)} for name, config in MODELS.items()
    }
    write_json(TABLE, sizes)
