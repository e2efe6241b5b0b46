"""Loads a model's tokenizer without its weights."""

from typing import Any


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a model.

    Args:
        name: what `load` takes.

    Raises:
        StropError: the model cannot be found; the text says what was looked for where.
    """
    from strop.models.loading import resolve

    folder = resolve(name)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
