"""A configuration of another tool, read as settings; each key without a counterpart is named with why."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.compat.configs import composed as rules
from strop.compat.configs.composed import DATA, Composed
from strop.compat.configs.tables import ABSENT, RENAMED, TO_TRAINER, UNNEEDED, ZERO_IS_NONE
from strop.core.errors import ConfigError, StropError
from strop.core.files import reading, yaml_value
from strop.planning.settings import Settings

_RULES = (
    *(rules.batch, rules.bits, rules.method, rules.adapter, rules.schedule, rules.layers),
    rules.rates,
)
_OPTIMIZERS = {
    "adamw_8bit": "adamw_torch",
    "adamw_bnb_8bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_torch",
    "paged_adamw_32bit": "adamw_torch",
}
"""Optimizers that bitsandbytes brings, whose state of an adapter is small anyway."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A key that has no counterpart, or whose value has none."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedConfig:
    """Settings that a configuration of another tool gives."""

    source: str
    """axolotl, llama-factory or unsloth."""
    settings: dict[str, Any]
    """As `strop train --config` takes them."""
    left_out: tuple[LeftOut, ...]
    """What asks for something that no setting does."""
    unneeded: tuple[LeftOut, ...]
    """What strop does anyway, or decides itself."""


def import_config(path: str | Path) -> ImportedConfig:
    """Return what a YAML or JSON file of Axolotl, LLaMA-Factory or Unsloth gives as settings.

    Raises:
        DataError: the file cannot be read.
        ConfigError: it is no configuration of these.
    """
    file = Path(path)
    config = _read(file)
    source = _source(config, file)
    if source == "unsloth":
        config = _flat(config)
        for tracker, name in (
            ("enable_wandb", "wandb_project"),
            ("enable_tensorboard", "tensorboard_dir"),
        ):
            if not config.get(tracker):
                config.pop(name, None)
    composed = Composed()
    for rule in _RULES:
        rule(config, composed)
    DATA[source](config, composed, file.parent)
    settings, left, unneeded = dict(composed.settings), [], []
    trainer: dict[str, Any] = {}
    for key, value in config.items():
        if key in composed.left:
            left.append(LeftOut(key, value, composed.left[key]))
        elif key in composed.used or _is_off(value):
            continue
        elif (setting := RENAMED[source].get(key)) is not None:
            if not (setting in ZERO_IS_NONE and isinstance(value, int | float) and value <= 0):
                settings[setting] = value
        elif key in TO_TRAINER:
            trainer[TO_TRAINER[key]] = (
                _OPTIMIZERS.get(value, value) if key[:5] == "optim" else value
            )
        elif key in UNNEEDED:
            unneeded.append(LeftOut(key, value, UNNEEDED[key]))
        else:
            left.append(
                LeftOut(key, value, ABSENT.get(key, "no setting of strop has this meaning"))
            )
    for key in composed.left.keys() - config.keys():
        left.append(LeftOut(key, None, composed.left[key]))
    if trainer.get("optim") in ("adamw_torch", "adamw_torch_fused"):
        del trainer["optim"]  # what a run takes anyway
    if trainer:
        settings["trainer"] = trainer
    left += _refused(settings)
    return ImportedConfig(source, settings, tuple(left), tuple(unneeded))


def _refused(settings: dict[str, Any]) -> list[LeftOut]:
    """Take out settings whose values a run does not take, and return them with why."""
    left = []
    for name in list(settings):
        try:
            Settings.read({name: settings[name]})
        except StropError as e:
            left.append(LeftOut(name, settings.pop(name), str(e).strip().splitlines()[-1].strip()))
    return left


def _is_off(value: Any) -> bool:
    return (value in (None, False, "", "none", "None", [], {}) and value != 0) or value is False


def _read(file: Path) -> dict[str, Any]:
    import yaml

    with reading(file, "give a YAML or JSON file"):
        text = file.read_text(encoding="utf-8")
    try:
        config = yaml_value(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"{file} is no YAML: {e}") from e
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds no keys with values")
    return {str(key): value for key, value in config.items()}


def _source(config: Mapping[str, Any], file: Path) -> str:
    if "base_model" in config:
        return "axolotl"
    if "model_name_or_path" in config:
        return "llama-factory"
    if any(isinstance(config.get(part), dict) for part in ("training", "lora")):
        return "unsloth"
    raise ConfigError(
        f"{file} is no training configuration that is known: Axolotl's has base_model, "
        "LLaMA-Factory's model_name_or_path, Unsloth's the parts training and lora; it has "
        f"{', '.join(list(config)[:8])}"
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of all parts of Unsloth's configuration; what it infers with is no training."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(value, dict):
            flat[key] = value
        elif key != "inference":
            flat |= value
    return flat
