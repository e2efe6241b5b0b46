"""Configurations of Axolotl, LLaMA-Factory and Unsloth, read as strop's settings."""

from strop.compat.configs.reading import ImportedConfig, LeftOut, import_config

__all__ = ["ImportedConfig", "LeftOut", "import_config"]
