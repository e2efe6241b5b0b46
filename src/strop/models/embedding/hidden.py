"""Mean hidden states of a language model as vectors of texts, where no embedding model is at hand."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from strop.core.digest import folder_digests
from strop.core.progress import Progress, silent
from strop.models.loading import load, resolve

_LONGEST = 512


class HiddenStates:
    """A causal language model: the mean over a text's tokens of the states before its head.

    States of such models share one large direction, so the mean of many texts' vectors is no
    measure of anything; what they rank is still better than chance. Embedding models do better.

    Args:
        name: of the model.

    Raises:
        StropError: see `strop.load`.
    """

    trust = 0.01

    def __init__(self, name: str) -> None:
        self.name = name
        digests = folder_digests(resolve(name))
        self.sha256 = next(v for k, v in sorted(digests.items()) if k.endswith(".safetensors"))
        self._model, self._tokenizer = load(name)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return a unit vector for each text, [N, D]; texts are cut at 512 tokens."""
        width = self._model.config.get_text_config().hidden_size
        vectors = np.zeros((len(texts), width), np.float32)
        for number, text in enumerate(texts):
            ids = self._tokenizer(text, truncation=True, max_length=_LONGEST)["input_ids"]
            if ids:
                rows = torch.tensor([ids], device=self._model.device)
                states = self._model.base_model(input_ids=rows).last_hidden_state
                vectors[number] = normalize(states[0].float().mean(0), dim=0).cpu().numpy()
            progress("embedding", number + 1, len(texts))
        return vectors
