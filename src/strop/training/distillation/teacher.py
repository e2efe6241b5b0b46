"""A teacher: a run or a model, and what it gives for tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.digest import folder_digests
from strop.core.quiet import quiet
from strop.evaluation.opening import checkpoint_of, opened, run_of
from strop.forward.compact import CompactForward, install
from strop.forward.head import Head
from strop.forward.scored_rows import hidden_rows
from strop.models.identity import base_identity
from strop.models.loading import located
from strop.models.precision import dtype_name
from strop.ops.linear_log_prob.divergence import Logits


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model that another one learns from."""

    name: str
    """As the user wrote it."""
    model: Any
    tokenizer: Any
    compact: CompactForward

    @classmethod
    def open(cls, name: str) -> "Teacher":
        """Return the teacher of a name: a run, one of its checkpoints, or a model.

        Raises:
            StropError: it cannot be loaded.
        """
        with quiet():
            model, tokenizer = opened(name)
        model.requires_grad_(False)
        compact, _ = install(model)
        return cls(name, model, tokenizer, compact)

    def has_vocabulary_of(self, tokenizer: Any) -> bool:
        """Return True if its probabilities are of the tokens of another tokenizer."""
        return bool(self.tokenizer.get_vocab() == tokenizer.get_vocab())

    def identity(self) -> dict[str, Any]:
        """Return what decides its numbers: digests of its weights, and the format of its products."""
        run = run_of(self.name)
        if run is None:
            weights = base_identity(located(self.name))
        else:
            folder = checkpoint_of(self.name) or run.weights()
            weights = {**run.record["base"]["sha256"], **folder_digests(Path(folder))}
        return {"weights": weights, "dtype": dtype_name(self.model)}

    @torch.no_grad()
    def hidden_rows(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Return the hidden row [M, F] that predicts each label, in their order in [B, T]."""
        return hidden_rows(self.compact, labels, {"input_ids": ids, "attention_mask": mask})

    def head(self) -> tuple[Tensor, Logits]:
        """Return the weight [V, F] of its head, and how products become logits."""
        head = Head.of(self.compact.model)
        assert head.weight is not None, "a frozen head is a matrix"
        return head.weight, Logits(head.bias, head.scale, head.softcap)
