"""A model object beside the folder it was loaded from: told apart, and saved where they differ."""

from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError
from strop.core.files import written_whole
from strop.core.quiet import quiet
from strop.core.system.disk import check_room
from strop.models.changed_by_hand import changed_by_hand
from strop.models.loading import opened, resolve
from strop.models.precision import bits_of, computes_in
from strop.models.quantized.on_load import SHARD

_STATED = {
    *("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"),
    *("use_cache", "quantization_config", "pad_token_id", "bos_token_id", "eos_token_id"),
}
"""Settings that do not change what the weights of a model compute."""


def differences(model: Any, name: str | Path) -> list[str]:
    """Return what of a model object is not as `load` finds it under `name`.

    Returns:
        Names of tensors with other values, shapes or in one of them only; then of settings of the
        configuration with other values, and of layers that compute something else.

    Raises:
        StropError: there is no such model, or it cannot be opened in the bits of the object.
    """
    bits = bits_of(model)
    stored = opened(resolve(name), bits, None if bits == 32 else computes_in(model))
    mine, theirs = model.state_dict(), stored.state_dict()
    tensors = [key for key in mine if key not in theirs or not _same(mine[key], theirs[key])]
    tensors += [key for key in theirs if key not in mine]
    mine, theirs = model.config.to_dict(), stored.config.to_dict()
    by_hand = [*changed_by_hand(model, stored)]
    settings = [
        f"config.{key}"
        for key in sorted({*mine, *theirs} - _STATED)
        if mine.get(key) != theirs.get(key)
    ]
    return tensors + settings + by_hand


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return False
    wide = torch.promote_types(a.dtype, b.dtype)
    return torch.equal(a.detach().to(b.device, wide), b.detach().to(wide))


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model object into `folder`, from which `load` opens just that model.

    Raises:
        ConfigError: what is opened there is not the model; the text names the tensors.
        UnsupportedError: the disk has no room for it.
    """
    check_room(folder.parent, {"the model that was given": model.get_memory_footprint()})
    settings = model.generation_config
    with written_whole(folder) as scratch, quiet():
        model.generation_config = type(settings)()  # saving it refuses what many models have
        try:
            model.save_pretrained(scratch, max_shard_size=SHARD)
        finally:
            model.generation_config = settings
        settings.to_json_file(scratch / "generation_config.json", keys_to_pop=["compile_config"])
        tokenizer.save_pretrained(scratch)
        try:
            left = differences(model, scratch)
        except (ConfigError, DataError) as e:
            left = [f"this: {str(e).replace(str(scratch), folder.name)}"]
        if left:
            raise ConfigError(
                f"the model that was given cannot be kept with the run: written and opened again it "
                f"differs in {spoken(left)}. A run keeps weights and settings, not layers, hooks and "
                "numbers that were changed by hand: take those back (load it with dtype= in place of "
                "model.to), or train it as it is with TRL's trainer and strop.accelerate(trainer)"
            )


def spoken(names: list[str]) -> str:
    """Return names as sentences show them: a few, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
