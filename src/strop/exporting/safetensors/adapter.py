"""Writes a run's adapter as PEFT alone opens it, beside the tokenizer it was trained with."""

import shutil
from pathlib import Path

from strop.core.files import read_json, write_json
from strop.core.progress import Written
from strop.exporting.weights.tuned import TunedWeights
from strop.models.assets import ModelAssets

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Adapter:
    """An adapter folder that is to be written."""

    def __init__(self, weights: TunedWeights, assets: ModelAssets) -> None:
        """Set what to write."""
        self.weights, self.assets = weights, assets

    @property
    def nbytes(self) -> int:
        """Bytes of the adapter's weights."""
        return (self.weights.adapter / WEIGHTS).stat().st_size

    def write(self, folder: Path, written: Written) -> None:
        """Write everything into `folder`, which is made.

        Args:
            folder: does not exist yet.
            written: called with the bytes that are written.
        """
        folder.mkdir()
        shutil.copyfile(self.weights.adapter / WEIGHTS, folder / WEIGHTS)
        shutil.copyfile(self.weights.adapter / CONFIG, folder / CONFIG)
        self.assets.save_tokenizer(folder)
        written(self.nbytes)


def over_base(adapter: Path, base: Path, folder: Path) -> Path:
    """Copy an adapter into `folder`, there naming a base on this machine, and return that folder.

    What is published names its base as others find it, which may not be here.
    """
    shutil.copytree(adapter, folder)
    config = {**read_json(folder / CONFIG), "base_model_name_or_path": str(base.absolute())}
    write_json(folder / CONFIG, config)
    return folder
