"""Training that begins with an adapter: of a run of strop, of PEFT, of Unsloth."""

from pathlib import Path
from typing import Any

from strop.core.errors import DataError, UnsupportedError
from strop.core.files import reading

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapter_folder(path: Path) -> Path:
    """Return the folder of an adapter, which of a run is its `adapter`.

    Raises:
        DataError: there is none.
    """
    for folder in (path, path / "adapter"):
        if all((folder / name).is_file() for name in _FILES):
            return folder
    raise DataError(
        f"continue_from is {path}, and neither it nor its folder adapter holds {' and '.join(_FILES)}"
    )


def config_of(path: Path, dropout: float) -> Any:
    """Return PEFT's configuration of an adapter that is to be trained on.

    Raises:
        DataError: it cannot be read.
        UnsupportedError: it is no LoRA.
    """
    from peft import LoraConfig, PeftConfig

    folder = adapter_folder(path)
    with reading(folder / _FILES[0], "give a folder that PEFT wrote"):
        config = PeftConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        raise UnsupportedError(f"the adapter in {folder} is {config.peft_type}; only LoRA goes on")
    config.inference_mode = False
    config.base_model_name_or_path = None  # PEFT names the base that it is put on
    config.lora_dropout = dropout
    config.init_lora_weights = True  # how the first one began is past
    return config


def begin_with(model: Any, path: Path) -> None:
    """Load the weights of an adapter into a model that has one of the same configuration.

    Raises:
        DataError: they are of another model.
    """
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    folder = adapter_folder(path)
    with reading(folder / _FILES[1], "give a folder that PEFT wrote"):
        weights = load_peft_weights(str(folder), device="cpu")
    try:
        outcome = set_peft_model_state_dict(model, weights)
    except RuntimeError as e:  # PyTorch's, for shapes that differ
        raise DataError(f"the adapter in {folder} is of another model: {e}") from e
    absent = [name for name in outcome.missing_keys if "lora_" in name]
    if odd := [*outcome.unexpected_keys, *absent]:
        raise DataError(
            f"the adapter in {folder} is of another model: only one of both has {odd[0]} ({len(odd)} such)"
        )
