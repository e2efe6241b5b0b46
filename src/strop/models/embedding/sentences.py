"""Sentence-transformers folders, run by transformers alone: pooled and normalised token states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from strop.core.errors import ConfigError
from strop.core.files import read_json, reading
from strop.core.progress import Progress, silent
from strop.core.quiet import quiet
from strop.models.dtype import default_device

_TOKENS_AT_ONCE = 8192
_LONGEST = 512
"""Most tokens of a text where the folder names no limit."""


class SentenceEmbedder:
    """A transformer whose token states are pooled, with a sentence-transformers `modules.json`.

    Args:
        name: see `Embedder`.
        sha256: see `Embedder`.
        folder: with the model, its tokenizer and `1_Pooling/config.json`.

    Raises:
        ConfigError: it has a module, or a pooling, that is not served.
        DataError: a file is missing or damaged.
    """

    trust = 1.0

    def __init__(self, name: str, sha256: str, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.name, self.sha256 = name, sha256
        self._first = _pools_first(folder)
        with reading(folder), quiet():
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            model = AutoModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
        self._model = model.to(default_device()).eval()
        positions = getattr(model.config, "max_position_embeddings", _LONGEST)
        self._longest = min(_LONGEST, positions)

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return a unit vector for each text, [N, D]; texts are cut at 512 tokens."""
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._longest)
        rows: list[list[int]] = encoded["input_ids"]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        vectors = np.zeros((len(rows), self._model.config.hidden_size), np.float32)
        done = 0
        while done < len(order):
            batch = [order[done]]
            for i in order[done + 1 :]:
                if (len(batch) + 1) * len(rows[i]) > _TOKENS_AT_ONCE:
                    break
                batch.append(i)
            vectors[batch] = self._pooled([rows[i] for i in batch])
            done += len(batch)
            progress("embedding", done, len(order))
        return vectors

    @torch.inference_mode()
    def _pooled(self, rows: list[list[int]]) -> NDArray[np.float32]:
        inputs: Any = self._tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        inputs = inputs.to(self._model.device)
        states = self._model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None].float()
        pooled = states[:, 0] if self._first else (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors: NDArray[np.float32] = normalize(pooled, dim=1).cpu().numpy()
        return vectors


def _pools_first(folder: Path) -> bool:
    """Return whether the first token's state is taken, else the mean.

    Raises:
        ConfigError: the folder asks for anything else.
    """
    modules = read_json_list(folder / "modules.json")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if unknown := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        raise ConfigError(
            f"{folder} has modules that are not served here: {', '.join(sorted(unknown))}; give a "
            "model of Transformer, Pooling and Normalize alone"
        )
    pooling = read_json(folder / "1_Pooling" / "config.json")
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    mode = modes[0] if len(modes) == 1 else None
    if mode not in ("pooling_mode_mean_tokens", "pooling_mode_cls_token"):
        raise ConfigError(f"{folder} pools by {modes}; mean_tokens and cls_token are served here")
    return mode == "pooling_mode_cls_token"


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON list.

    Raises:
        DataError: the file cannot be read.
    """
    import json

    with reading(path):
        return [dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
