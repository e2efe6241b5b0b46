"""Everything of a model but its weights: configuration, generation settings, tokenizer."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.models.loading import resolve
from strop.models.special_tokens import settle


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds a model's weights, settled as `load` settles it."""

    folder: Path
    """Where it was read, with the weights."""
    config: Any
    generation_config: Any
    tokenizer: Any

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer."""
        return list(self.generation_config.eos_token_id)

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write everything beside weights of the format `dtype` that lie in `folder`."""
        config = copy.deepcopy(self.config)
        config.dtype = dtype
        config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_frame(name: str | Path, tokenizer: Path | None = None) -> Frame:
    """Return what surrounds a model's weights, with the chat template that training used.

    Args:
        name: what `load` takes.
        tokenizer: a folder whose tokenizer replaces the model's own.

    Raises:
        StropError: the model cannot be found; the text says what was looked for where.
    """
    folder = resolve(name)
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it says how weights are stored, which are not of the frame
    if (folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    found = AutoTokenizer.from_pretrained(tokenizer or folder, local_files_only=True)
    frame = Frame(folder, config, generation, found)
    settle(frame, found)
    return frame
