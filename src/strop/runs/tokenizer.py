"""The tokenizer that a run trained with."""

from pathlib import Path

from strop.models.assets import check_same_files, copy_tokenizer
from strop.runs.run import Run


def save_tokenizer(run: Run, folder: Path) -> None:
    """Write the tokenizer, as it was when training began, into `folder`.

    Raises:
        DataError: what the run keeps of it is damaged.
    """
    if not run.assets_folder.is_dir():
        run.assets().save_tokenizer(folder)
        return
    check_same_files(run.assets_folder, run.record.get("model_assets", {}))
    copy_tokenizer(run.assets_folder, folder)
