"""Several adapters of one base joined into one, by PEFT."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.core.files import read_json, reading
from strop.core.quiet import quiet
from strop.models.lora.full_weights import CONFIG, KIND

METHODS = (
    "cat",
    "linear",
    "svd",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "magnitude_prune",
    "magnitude_prune_svd",
)
"""PEFT's `combination_type`."""
_EXACT = ("cat", "linear", "svd")
_JOINED = "joined"


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How adapters are joined."""

    weights: tuple[float, ...]
    """One for each adapter."""
    method: str = "cat"
    """cat adds the updates exactly, with the ranks of all; the others are as PEFT has them."""
    density: float = 0.5
    """Share of an adapter's values that ties, dare and magnitude_prune keep."""
    seed: int = 0
    """Decides which values dare drops."""


def check(recipe: Recipe, folders: Sequence[Path]) -> None:
    """Refuse what cannot be joined, all at once.

    Raises:
        ConfigError: the numbers do not fit.
        UnsupportedError: an adapter is of a kind whose update is more than B A.
    """
    wrong = []
    if len(folders) < 2:
        wrong.append(f"{len(folders)} adapter is given; merging takes two or more")
    if len(recipe.weights) != len(folders):
        wrong.append(
            f"weights has {len(recipe.weights)} numbers for {len(folders)} adapters; give one each, as "
            f"in --weights {','.join(['0.5'] * len(folders))}"
        )
    if recipe.method not in METHODS:
        wrong.append(f"method is {recipe.method!r}; it must be one of {', '.join(METHODS)}")
    if not 0 < recipe.density <= 1:
        wrong.append(f"density is {recipe.density}; it is a share, above 0 and at most 1")
    if wrong:
        raise ConfigError("the adapters cannot be merged:\n  " + "\n  ".join(wrong))
    configs = [read_json(folder / CONFIG) for folder in folders]
    odd = [
        f"{folder} {reason}"
        for folder, config in zip(folders, configs, strict=True)
        if (reason := _obstacle(config))
    ]
    if odd:
        raise UnsupportedError(
            "only adapters that add B A to weights are merged:\n  " + "\n  ".join(odd)
        )
    ranks = {config["r"] for config in configs}
    patterned = any(config.get("rank_pattern") for config in configs)
    if (len(ranks) > 1 or patterned) and recipe.method != "cat" and "svd" not in recipe.method:
        named = f"{recipe.method}_svd" if f"{recipe.method}_svd" in METHODS else "svd"
        raise ConfigError(
            f"the adapters have ranks {', '.join(map(str, sorted(ranks)))}, and {recipe.method} needs one "
            f"rank for all; take --method {named} or cat"
        )


def _obstacle(config: dict[str, Any]) -> str:
    """Return why an adapter cannot be merged with others, or nothing."""
    if config.get(KIND):
        return "trained all weights (adapter none)"
    if config.get("peft_type") != "LORA":
        return f"is of the kind {config.get('peft_type')}"
    for name, what in (
        ("use_dora", "has lengths of DoRA"),
        ("modules_to_save", "has whole layers (modules_to_save)"),
        ("trainable_token_indices", "has rows of tokens"),
        ("lora_bias", "has biases"),
        ("target_parameters", "is on stacked experts"),
    ):
        if config.get(name):
            return what
    return ""


def join(model: Any, folders: Sequence[Path], recipe: Recipe, out: Path) -> None:
    """Write one adapter that does what several do together.

        W + sum over i of weight_i * scale_i B_i A_i        by "cat"

    Args:
        model: the base of all; PEFT's layers are put into it.
        folders: of the adapters.
        recipe: checked.
        out: is made.

    Raises:
        DataError: an adapter is of another model.
    """
    from peft import PeftModel

    names = [f"adapter{i}" for i in range(len(folders))]
    with quiet(), reading(folders[0], "give the folder of a finished run, or of an adapter"):
        tuned = PeftModel.from_pretrained(model, folders[0], adapter_name=names[0])
        for name, folder in zip(names[1:], folders[1:], strict=True):
            tuned.load_adapter(folder, adapter_name=name)
        for config in tuned.peft_config.values():
            config.use_rslora = False  # scales are read; the joined adapter has none but 1
            config.init_lora_weights = True
        density = None if recipe.method in _EXACT else recipe.density
        with torch.random.fork_rng([]):
            torch.manual_seed(recipe.seed)
            try:
                tuned.add_weighted_adapter(
                    names,
                    [*recipe.weights],
                    _JOINED,
                    combination_type=recipe.method,
                    density=density,
                )
            except ValueError as e:
                raise DataError(f"PEFT does not merge these adapters: {e}") from e
        tuned.save_pretrained(out, selected_adapters=[_JOINED], save_embedding_layers=False)
    for file in (out / _JOINED).iterdir():
        file.rename(out / file.name)
    (out / _JOINED).rmdir()
    (out / "README.md").unlink(missing_ok=True)
