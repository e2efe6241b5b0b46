"""Chooses the base that a few-bit run's update is added to, by the KL divergence on each."""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from strop.exporting.certify.reference import ReferenceOutputs
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.weights.base_weights import ORIGINAL
from strop.exporting.weights.sketches import WeightSketch, sketch_over
from strop.exporting.weights.tuned import TunedWeights, pour
from strop.metrics.divergence import agreement
from strop.models import load
from strop.models.assets import ModelAssets


@torch.no_grad()
def measured(
    reference: ReferenceOutputs,
    assets: ModelAssets,
    candidates: Mapping[str, TunedWeights],
    scaling: ChannelScaling,
    dtype: torch.dtype | None,
) -> ReferenceOutputs:
    """Return the reference with the agreement on each base, and the name of the nearest one.

    The update was trained on the dequantised base; added to the original weights it corrects
    errors that are not there, and may yet do better on held-out text. Both are merged, rounded to
    the format they would be written in, and asked about the texts of the reference; of two equally
    near the first is taken. Weights are held in float32 meanwhile, as when the model was asked.

    Args:
        reference: what the trained model says.
        assets: what surrounds its weights; its folder holds the original ones.
        candidates: merged weights by the name of their base.
        scaling: by which channels are scaled in some formats.
        dtype: that merged weights are stored in; None stores each as the base does.
    """
    model, _ = load(assets.folder, bits=32)
    agreements = {}
    for name, weights in candidates.items():
        pour(weights, model, dtype)
        agreements[name] = agreement(
            reference.texts,
            reference.context_starts,
            reference.log_probs,
            lambda ids: model(input_ids=torch.tensor([ids], device=model.device)).logits[0].cpu(),
        )
    nearest = min(agreements, key=lambda name: agreements[name].kl)
    sketches, scaled = reference.sketches, reference.scaled
    if nearest == ORIGINAL:
        base = candidates[nearest].base

        def over(
            name: str, sketch: WeightSketch, apply: Callable[[str, Tensor], Tensor]
        ) -> WeightSketch:
            weight = apply(name, base.rows(name, None, None))
            return sketch_over(weight, sketch.update, sketch.transposed_update)

        sketches = {k: over(k, p, lambda _, weight: weight) for k, p in sketches.items()}
        scaled = {k: over(k, p, scaling.apply) for k, p in scaled.items()}
    return dataclasses.replace(
        reference, base=nearest, bases=agreements, sketches=sketches, scaled=scaled
    )
