"""Folder of a training run."""

import dataclasses
import logging
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.core.digest import changed_file, file_digest
from strop.core.errors import ConfigError, DataError
from strop.core.files import clear_leftovers, read_sealed, reading, write_sealed
from strop.core.progress import Progress, silent
from strop.core.quiet import quiet
from strop.planning import rewards
from strop.runs import checkpoints
from strop.runs.log import LOG, read_log

if TYPE_CHECKING:
    from torch import Tensor

    from strop.models.assets import ModelAssets

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A training run on disk: its settings, its log, its checkpoints, its adapter, its assets."""

    path: Path
    """The folder."""

    @staticmethod
    def is_at(path: str | Path) -> bool:
        """Return True if a folder has a run in it."""
        return (Path(path) / "run.json").is_file()

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Return the run in folder `path`.

        Raises:
            ConfigError: the folder holds no run.
        """
        run = cls(Path(path))
        if not run.record_file.is_file():
            where = "has no run.json" if run.path.is_dir() else "is not a folder"
            raise ConfigError(f"{path} is not a run: it {where}; give the folder that train wrote")
        return run

    @property
    def record_file(self) -> Path:
        """run.json: settings as resolved, versions, data, what was measured."""
        return self.path / "run.json"

    @property
    def log_file(self) -> Path:
        """log.jsonl: one line a step."""
        return self.path / LOG

    @property
    def adapter_folder(self) -> Path:
        """adapter/: the finished adapter as PEFT writes it."""
        return self.path / "adapter"

    @property
    def assets_folder(self) -> Path:
        """model_assets/: configuration, tokenizer and generation settings, as trained with."""
        return self.path / "model_assets"

    @property
    def base_folder(self) -> Path:
        """base/: the model that was trained on, where no folder has it."""
        return self.path / "base"

    @property
    def model(self) -> str:
        """Name or folder of the model that was trained on, for `strop.load`."""
        in_run = self.record.get("base", {}).get("kept")
        return str(self.base_folder.absolute()) if in_run else str(self.settings["model"])

    @property
    def tokenizer_identity(self) -> str | None:
        """SHA-256 of the tokenizer that was trained with; None until it is written."""
        return self.record.get("tokenizer", {}).get("sha256")

    @property
    def checkpoints_folder(self) -> Path:
        """checkpoints/: from which an interrupted run is resumed."""
        return self.path / "checkpoints"

    @property
    def activation_stats_file(self) -> Path:
        """activation_stats.safetensors: mean square of each linear layer's input channels."""
        return self.path / "activation_stats.safetensors"

    @property
    def report(self) -> Path:
        """report.html: the run as one page."""
        return self.path / "report.html"

    @property
    def record(self) -> dict[str, Any]:
        """Content of run.json.

        Raises:
            DataError: it is damaged, or was changed by hand.
        """
        record = read_sealed(self.record_file)
        if not isinstance(record.get("settings"), dict) or "status" not in record:
            raise DataError(
                f"{self.record_file} lacks the settings or the status of a run; put it back from a copy"
            )
        return record

    @property
    def settings(self) -> dict[str, Any]:
        """Settings as resolved; `Settings.read` takes them."""
        return dict(self.record["settings"])

    @property
    def finished(self) -> bool:
        """True if training ran to its end; otherwise it can be resumed."""
        return bool(self.record["status"] == "finished")

    @property
    def diverged(self) -> str:
        """A sentence with the remedy if the run diverged, else nothing."""
        return str(self.record.get("diverged", ""))

    @property
    def began(self) -> bool:
        """True if a step was taken, so that deleting the run loses work."""
        saved = map(checkpoints.step_of, checkpoints.whole(self.checkpoints_folder))
        return self.finished or any(saved) or any("loss" in line for line in self.log)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Lines of log.jsonl; a line cut off by a crash is left out.

        Raises:
            DataError: a line is not one that training wrote.
        """
        return read_log(self.log_file)

    @property
    def evaluation_file(self) -> Path:
        """evaluation.json: base and tuned model on the same rows."""
        return self.path / "evaluation.json"

    @property
    def evaluation_rows_file(self) -> Path:
        """evaluation_rows.jsonl: what base and tuned model did on each row."""
        return self.path / "evaluation_rows.jsonl"

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Content of evaluation.json, or None before an evaluation."""
        path = self.evaluation_file
        hint = "remove it, and evaluate the run again"
        return read_sealed(path, hint=hint) if path.is_file() else None

    def clear(self) -> None:
        """Delete what training, evaluation and exports wrote, half-written files too; others stay.

        The record is deleted last: until then the folder is a run.
        """
        written = [self.checkpoints_folder, self.adapter_folder]
        written += [self.assets_folder, self.base_folder]
        evaluations = (self.evaluation_file, self.evaluation_rows_file)
        others = (self.log_file, self.activation_stats_file, self.report)
        files = (*others, *evaluations, self.record_file)
        for path in (*written, *files):
            clear_leftovers(path)
        for folder in (*written, self.path / "export", self.path / "tensorboard"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in files:
            file.unlink(missing_ok=True)

    def update(self, **facts: Any) -> None:
        """Add `facts` to run.json."""
        write_sealed(self.record_file, {**self.record, **facts})

    def weights(self) -> Path:
        """Return the finished adapter, or else the last complete checkpoint.

        Raises:
            ConfigError: the run has neither.
            DataError: a file of the adapter is not what training wrote.
        """
        if self.adapter_folder.is_dir():
            recorded = self.record.get("adapter", {})
            if (file := changed_file(self.adapter_folder, recorded)) is not None:
                raise DataError(
                    f"{file} is not what training wrote (SHA-256 {recorded[file.name][:12]}); put it "
                    "back from a copy of the run, or train again"
                )
            return self.adapter_folder
        if (last := checkpoints.newest(self.checkpoints_folder)) is None:
            raise ConfigError(
                f"{self.path} has no adapter and no complete checkpoint yet; resume the run first"
            )
        return last

    @property
    def day(self) -> date | None:
        """The day that chat templates write as today's; None for runs that recorded none."""
        day = self.record.get("day")
        return None if day is None else date.fromisoformat(day)

    def activation_stats(self) -> "dict[str, Tensor]":
        """Return the mean square of each input channel [I] by layer; empty before the run is finished.

        Raises:
            DataError: the file is damaged.
        """
        from safetensors.torch import load_file

        file, hint = self.activation_stats_file, "remove it, and exports are rounded without"
        if not file.is_file():
            return {}
        with reading(file, hint):
            stats = load_file(file)
        recorded = self.record.get("activation_stats", {}).get("sha256")
        if recorded is not None and file_digest(file) != recorded:
            raise DataError(f"{file} is damaged: it is not what training wrote; {hint}")
        return stats

    def assets(self) -> "ModelAssets":
        """Return the model assets as they were when training began.

        Raises:
            StropError: the model is no longer found.
            DataError: another model is there now, or the tokenizer is not the one trained with.
        """
        from strop.data.encoding.templates import render_on
        from strop.models.assets import check_same_files, load_assets
        from strop.models.identity import check_same_base, check_same_tokenizer

        record, name = self.record, self.model
        if self.assets_folder.is_dir():
            check_same_files(self.assets_folder, record.get("model_assets", {}))
        assets = load_assets(name, self.assets_folder)
        check_same_base(self.path, name, assets.folder, record.get("base", {}).get("sha256", {}))
        if assets.saved_in is None:
            check_same_tokenizer(
                self.path, assets.folder, assets.tokenizer, self.tokenizer_identity
            )
        render_on(assets.tokenizer, self.day)
        return assets

    def load(self, checkpoint: Path | None = None) -> tuple[Any, Any]:
        """Return the model as this run trained it, in eval mode, and the tokenizer.

        Args:
            checkpoint: take what was trained up to this one; None takes the finished run's.
        """
        rewards.check_writes(self.path, self.settings.get("method"))
        weights = checkpoint or self.weights()
        model, tokenizer = self.load_base()
        with quiet():
            from strop.models.lora.full_weights import as_trained

            return as_trained(model, weights), tokenizer

    def load_base(self, progress: Progress = silent) -> tuple[Any, Any]:
        """Return the model this run was trained on, in eval mode, and the tokenizer of training.

        `progress` is called while weights are quantised.

        Raises:
            StropError: the model is no longer found.
            DataError: another model is there now, or the tokenizer is not the one trained with.
        """
        import torch

        from strop.models import load

        assets = self.assets()
        model, _ = load(
            self.model,
            bits=self.settings["bits"],
            dtype=getattr(torch, self.settings["dtype"]),
            progress=progress,
        )
        assets.govern(model)
        if (codes := self.record.get("base", {}).get("codes")) is not None:
            from strop.models.quantized.on_load import codes_identity

            if (now := codes_identity(assets.folder)) != codes:
                logger.warning(
                    "%s was trained on other 4-bit codes of %s (SHA-256 %s) than this machine computed "
                    "(%s), so its numbers differ a little from training's; copy the folder "
                    "of codes from the cache of the machine that trained it",
                    *(self.path, self.model, codes[:12], str(now)[:12]),
                )
        return model, assets.tokenizer
