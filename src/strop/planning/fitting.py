"""Memory that models need to answer and to be trained: simulated of known ones, by size of others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Self

TOKENS = 1024
"""Tokens of the one row that a step of the table computes at once, and of a conversation."""
RESERVE = 0.1
"""Share of the free memory that is left alone."""
BITS = {4: 4.25, 16: 16.0}
"""Bits that a linear weight takes, scales included."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that people fine-tune, of a family whose blocks strop computes itself."""

    hub: str
    """Its id on the Hugging Face hub."""
    license: str
    template: str
    """Family of its chat template."""
    config: Mapping[str, Any]
    """Entries of its configuration from which sizes follow."""
    training: Mapping[int, int]
    """Bytes at the peak of a step of LoRA, rank 16, on one row, by the bits of the base."""


@cache
def known_models() -> dict[str, KnownModel]:
    """Return the models people know by name, from the smallest.

    What `strop.planning.simulate` says of a step, weights included; `benchmarks/model_sizes.py` wrote it.
    """
    text = (resources.files("strop.planning") / "model_sizes.json").read_text("utf-8")
    models = {}
    for name, entry in json.loads(text).items():
        training = {int(bits): size for bits, size in entry["training"].items()}
        models[name] = KnownModel(**{**entry, "training": training})
    return models


def fitting(free: int) -> list[dict[str, Any]]:
    """Return for each known model the bytes its training needs, and in which bits it fits.

    Args:
        free: bytes of memory that are free, of the machine or of a card.
    """
    return [
        {
            "name": name,
            "bytes": dict(model.training),
            "fits": [bits for bits, size in model.training.items() if size <= (1 - RESERVE) * free],
        }
        for name, model in known_models().items()
    ]


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Numbers of weights of a dense decoder, by its configuration."""

    linear: int
    """Weights of the linear layers of all blocks."""
    embedding: int
    """Weights of the embedding, and of a head that is not tied to it."""
    cache: int
    """Keys and values of a token."""
    width: int
    """Width of the blocks, their MLPs' included, times their number."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """Return the sizes that a configuration gives; None where it is no dense decoder's."""
        try:
            width, inner, depth = (
                int(config[name])
                for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
            )
            heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
            key_heads = int(config.get("num_key_value_heads") or heads)
            head = int(config.get("head_dim") or width // heads)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        attention = width * head * (2 * heads + 2 * key_heads)
        copies = 1 if config.get("tie_word_embeddings", True) else 2
        return cls(
            linear=depth * (attention + 3 * width * inner),
            embedding=copies * vocabulary * width,
            cache=2 * depth * key_heads * head,
            width=depth * (width + inner),
        )

    @property
    def parameters(self) -> int:
        """Weights in all; norms are left out."""
        return self.linear + self.embedding

    def weights(self, bits: int) -> int:
        """Return the bytes of the weights with the linear ones in so many bits."""
        return round(self.linear * BITS[bits] / 8) + 2 * self.embedding


def inference_memory(size: ModelSize) -> dict[int, int]:
    """Return the bytes of weights and keys and values that a conversation needs, by bits."""
    return {bits: size.weights(bits) + 2 * TOKENS * size.cache for bits in BITS}


def training_memory(size: ModelSize) -> dict[int, int]:
    """Return about the bytes that a step of the table takes of a model of this size, by bits.

    What a step adds to the weights of the known model nearest in width, in proportion.
    """
    near, model = min(
        ((known, model) for model in known_models().values() if (known := ModelSize.of(model.config))),
        key=lambda pair: abs(pair[0].width - size.width),
    )  # fmt: skip
    return {
        bits: size.weights(bits)
        + round((model.training[bits] - near.weights(bits)) * size.width / near.width)
        for bits in BITS
    }
