"""Expected cost of errors in each weight of a tuned model, in nats per token."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.core.progress import Progress
from strop.exporting.weights.tuned import BaseWeights, pour
from strop.metrics.divergence import kl_divergence
from strop.models import load
from strop.models.quantized.block_runner import take_apart
from strop.models.quantized.calibration_text import sequences
from strop.ops.dequantize.packed import Packed
from strop.quantization.block import Decoder
from strop.quantization.calibration import LayerStats, calibrate, groups
from strop.quantization.choices import expected_kl, rounding_kl, sampled
from strop.quantization.compress import Calibrated, compress
from strop.quantization.formats import Format

TEXTS = 8
"""Sequences of the calibration text that are run forth and back."""
ENTERING = 2
"""Sequences on which an error of the embedding is measured."""
DRAWN = 4
"""Pairs of tokens that are drawn at each position to judge an error of the head."""
Stored = Callable[[Tensor], Tensor]
"""From rows of a weight to the rows as they would be stored."""


@dataclass(frozen=True, slots=True)
class Table:
    """The embedding and the head, which a tied model has in one."""

    entering: str
    """The embedding's name."""
    head: str
    """That of the head."""
    ids: Tensor
    """[S, T] token ids."""
    hidden: Tensor
    """[N, D] inputs of the head."""
    drawn: Tensor
    """[N, DRAWN, 2] pairs of tokens from the model's own distribution."""
    scale: float
    """Factor of the head's products."""

    def head_harm(self, rows: Callable[[Tensor], Tensor], stored: Stored) -> float:
        """Return the KL in nats that storing the head so is expected to cost.

            kl = 1/2 Var_p(e · h) = 1/4 E (e_a · h - e_b · h)**2,   a, b drawn from p

        Args:
            rows: gives the head's rows of some tokens.
            stored: the format.
        """
        tokens, places = self.drawn.unique(return_inverse=True)
        whole = rows(tokens)
        errors = (stored(whole) - whole)[places]  # [N, DRAWN, 2, D]
        moved = self.scale * torch.einsum("nkpd,nd->nkp", errors, self.hidden)
        return float((moved[..., 0] - moved[..., 1]).square().mean() / 4)


class Sensitivity:
    """Calibrated costs of errors in a tuned model; calibration runs on first use."""

    def __init__(self, name: str, weights: BaseWeights, progress: Progress) -> None:
        """Set the model.

        Args:
            name: of the base, as `load` takes it.
            weights: of the tuned model.
            progress: called with each stage of the calibration.
        """
        self._name, self.weights, self._progress = name, weights, progress

    @functools.cached_property
    def model(self) -> Any:
        """Return the tuned model with plain float32 weights."""
        model, self._tokenizer = load(self._name, bits=32)
        model.requires_grad_(False)
        pour(self.weights, model, torch.float32)
        return model

    @functools.cached_property
    def _texts(self) -> list[Tensor]:
        """Return the calibration sequences, [T] each."""
        model = self.model  # brings its tokenizer
        return sequences(self._tokenizer, None, model)[0]

    @functools.cached_property
    def _taken_apart(self) -> tuple[Decoder, list[Tensor]]:
        """Return the model's blocks, and each calibration sequence before the first."""
        return take_apart(self.model, self._texts[:TEXTS])

    @functools.cached_property
    def layers(self) -> dict[str, LayerStats]:
        """Return the calibration statistics of each linear layer of the blocks."""
        return calibrate(*self._taken_apart, self._progress)

    def rounded(self, chosen: Mapping[str, Format]) -> dict[str, Packed]:
        """Return layers in few bits, the error of each column fed into later ones.

        Args:
            chosen: the format of each, by keys of `layers`.
        """
        decoder, entering = self._taken_apart
        return compress(
            decoder, Calibrated(entering, self.layers), None, chosen, self._progress
        ).packed

    @functools.cached_property
    @torch.no_grad()
    def table(self) -> Table:
        """Return the inputs of the embedding and the head."""
        model = self.model
        ids = torch.stack(self._texts[:ENTERING])
        head, hidden = model.get_output_embeddings(), []
        hook = head.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
        logits = model(input_ids=ids).logits.flatten(0, 1)
        hook.remove()
        generator = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(logits.softmax(-1), 2 * DRAWN, True, generator=generator)
        config = model.config.get_text_config()
        return Table(
            entering=_name_of(model, model.get_input_embeddings()),
            head=_name_of(model, head),
            ids=ids,
            hidden=hidden[0].flatten(0, 1),
            drawn=drawn.view(-1, DRAWN, 2),
            scale=1.0 / getattr(config, "logits_scaling", 1.0),
        )

    @torch.no_grad()
    def embedding_harm(self, kinds: Mapping[str, Stored]) -> dict[str, float]:
        """Return the KL in nats that the model is measured to lose with each stored embedding."""
        model, ids = self.model, self.table.ids
        embedding = model.get_input_embeddings()
        used, places = ids.unique(return_inverse=True)
        whole = embedding.weight[used]
        original = model(input_ids=ids).logits.log_softmax(-1)
        losses = {}
        for i, (kind, stored) in enumerate(kinds.items()):
            self._progress("measuring the embedding", i, len(kinds))
            moved = (stored(whole) - whole)[places] * getattr(embedding, "embed_scale", 1.0)
            hook = embedding.register_forward_hook(lambda _, given, out, by=moved: out + by)
            changed = model(input_ids=ids).logits.log_softmax(-1)
            hook.remove()
            losses[kind] = float(kl_divergence(original, changed).mean())
        self._progress("measuring the embedding", len(kinds), len(kinds))
        return losses

    def head_harm(self, kinds: Mapping[str, Stored]) -> dict[str, float]:
        """Return the KL in nats that the model is expected to lose with each stored head."""
        weight = self.model.get_output_embeddings().weight.detach()
        return {k: self.table.head_harm(lambda ids: weight[ids], s) for k, s in kinds.items()}

    def layer_harm(self, name: str, kinds: Mapping[str, Stored]) -> dict[str, float]:
        """Return the KL in nats that the model is expected to lose with a layer stored so.

        Args:
            name: a key of `layers`.
            kinds: the formats.
        """
        layer, (sample, rows) = self.layers[name], self._sample(name)
        return {
            kind: expected_kl(layer, stored(sample) - sample, rows, layer.energy)
            for kind, stored in kinds.items()
        }

    def rounding_kl(self, name: str, form: Format) -> float:
        """Return the KL in nats that the model is expected to lose with a layer of `rounded`."""
        return rounding_kl(self.layers[name], *self._sample(name), form)

    def _sample(self, name: str) -> tuple[Tensor, Tensor]:
        """Return some rows of a layer's weight, and which they are."""
        rows = sampled(self.weights.shape(f"{name}.weight")[0])
        return self.model.get_submodule(name).weight.detach()[rows], rows

    def groups(self) -> list[list[str]]:
        """Return the layers that read the same input together."""
        return list(groups(self.layers).values())


def _name_of(model: Any, module: Any) -> str:
    return next(name for name, of in model.named_modules() if of is module) + ".weight"


def total(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums over some tables, of the keys that all of them have."""
    tables = list(each)
    return {k: sum(of[k] for of in tables) for k in tables[0] if all(k in of for of in tables)}
