"""Base of a run as a GGUF file in the cache, built once for all adapters over it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from strop.core import env
from strop.core.cache import cached_folder, is_cached
from strop.core.progress import Written, uncounted
from strop.core.system.disk import check_room
from strop.exporting.gguf.writer import GgufFile
from strop.exporting.weights.base_weights import loaded_base
from strop.exporting.weights.tuned import BaseWeights
from strop.models.assets import ModelAssets
from strop.models.files.weight_files import weight_files
from strop.models.identity import tokenizer_identity

_MODEL = "model.gguf"


class GgufBase:
    """GGUF file of the weights that a run was trained on, as they were in training."""

    def __init__(self, settings: dict[str, Any], assets: ModelAssets, quant: str) -> None:
        """List the tensors of the file.

        Args:
            settings: of the run.
            assets: of its base.
            quant: a name of `gguf_types.FILE_TYPES`.
        """
        self.contents = GgufFile(BaseWeights(loaded_base(settings, assets)), assets, quant)
        weights = weight_files(assets.folder)
        self._key = {
            "folder": str(assets.folder.absolute()),
            "files": [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in weights],
            "held": [settings["bits"], settings["dtype"]],
            "tokenizer": tokenizer_identity(assets.tokenizer),
            "ends": assets.ends,
        }
        digest = hashlib.sha256(json.dumps(self._key).encode()).hexdigest()
        self._name = f"{assets.folder.name}-{digest[:8]}-{quant}-gguf"

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.contents.nbytes

    def check_room(self) -> None:
        """Check that the cache has room for the file, unless it is there.

        Raises:
            UnsupportedError: it does not fit.
        """
        if not is_cached(self._name, self._key):
            check_room(env.cache_folder(), {self._name: self.nbytes})

    def file(self, written: Written = uncounted) -> Path:
        """Return the file, which is written if it is not there.

        Args:
            written: called with the bytes of each tensor that is written.
        """
        self.check_room()

        def write(folder: Path) -> None:
            folder.mkdir()
            self.contents.write(folder / _MODEL, written)

        return cached_folder(self._name, self._key, write) / _MODEL
