"""Static vectors: each token has one, a text has their mean; read and run by model2vec."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from strop.core.cache import cached_folder
from strop.core.files import reading
from strop.core.progress import Progress, silent
from strop.core.quiet import quiet

_DIMENSIONS = 256
_SIF = 1e-4
"""Weight of a token of probability p is a / (a + p) (smooth inverse frequency, Arora 2017)."""
_TOKENS_AT_ONCE = 1024
_TEXTS_AT_ONCE = 4096


class StaticVectors:
    """A model2vec folder.

    Args:
        name: see `Embedder`.
        sha256: see `Embedder`.
        folder: with `model.safetensors`, `tokenizer.json` and `config.json`.

    Raises:
        DataError: a file is missing or damaged.
    """

    trust = 0.01

    def __init__(self, name: str, sha256: str, folder: Path) -> None:
        from model2vec import StaticModel

        self.name, self.sha256 = name, sha256
        with reading(folder):
            self._model = StaticModel.from_pretrained(folder)

    def encode(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return a unit vector for each text, [N, D]."""
        parts = [np.zeros((0, self._model.dim), np.float32)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            vectors = self._model.encode(part, max_length=None, use_multiprocessing=False)
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            parts.append((vectors / np.maximum(norms, 1e-12)).astype(np.float32))
            progress("embedding", start + len(part), len(texts))
        return np.concatenate(parts)


def distilled(folder: Path, sha256: str) -> Path:
    """Return a model2vec folder made from a sentence-transformers one, kept in the cache.

    Each token's vector is the model's mean state of that token alone, its 256 principal components
    weighted by smooth inverse frequency, with Zipf's law for the frequencies (model2vec's recipe;
    its own distillation takes transformers below 5.4 only).
    """
    key = {"weights": sha256, "dimensions": _DIMENSIONS, "sif": _SIF, "version": 1}
    return cached_folder(
        f"static-{sha256[:12]}", key, lambda scratch: _distil(folder, scratch), shelf="embedders"
    )


def _distil(folder: Path, scratch: Path) -> None:
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    with reading(folder):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vectors = _weighted(_token_states(folder, tokenizer.get_vocab_size()).double().numpy())
    StaticModel(
        vectors.astype(np.float32), tokenizer, normalize=True, max_length=None
    ).save_pretrained(scratch)


@torch.inference_mode()
def _token_states(folder: Path, count: int) -> torch.Tensor:
    """Return the mean state of each token between the model's start and end tokens, [V, D]."""
    from transformers import AutoModel, AutoTokenizer

    with reading(folder), quiet():
        special: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    model.eval()
    states = []
    for start in range(0, count, _TOKENS_AT_ONCE):
        ids = torch.arange(start, min(count, start + _TOKENS_AT_ONCE))
        ends = [i for i in (special.cls_token_id, special.sep_token_id) if i is not None]
        around = [torch.full_like(ids, i) for i in ends]
        rows = torch.stack([*around[:1], ids, *around[1:]], 1)
        states.append(model(input_ids=rows).last_hidden_state.float().mean(1))
    return torch.cat(states)


def _weighted(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return principal components of tokens' states, weighted; tokens stand in order of frequency."""
    centred = states - states.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    frequency = 1 / np.arange(2, len(states) + 2)
    weight = _SIF / (_SIF + frequency / frequency.sum())
    components: NDArray[np.float64] = (centred @ axes[:, ::-1][:, :_DIMENSIONS]) * weight[:, None]
    return components
