"""Writes a run's adapter as PEFT alone opens it, beside the tokenizer it was trained with."""

import shutil
from pathlib import Path

from strop.core.files import write_json
from strop.core.progress import Written
from strop.exporting.weights.tuned import TunedWeights
from strop.models.assets import ModelAssets

WEIGHTS = "adapter_model.safetensors"


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
        config = dict(self.weights.adapter_config)
        named = str(config.get("base_model_name_or_path") or "")
        hub = named.count("/") == 1 and not named.startswith((".", "/", "~"))
        config["base_model_name_or_path"] = named if hub else str(self.assets.folder.absolute())
        write_json(folder / "adapter_config.json", config)
        self.assets.save_tokenizer(folder)
        written(self.nbytes)
