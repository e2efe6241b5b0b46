"""Chat with a run or a model: through llama.cpp where it has a GGUF file, else in PyTorch."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

from strop.models.files.places import check_name
from strop.models.packaged import PACKAGED

Reply = Callable[[list[dict[str, str]], int], Iterator[str]]
"""Yields the pieces of the answer to a chat; the second argument is the longest answer in tokens."""


def chat_model(name: str, *, uncertified: bool = False) -> Reply:
    """Return a function that answers chats.

    Args:
        name: a run folder, a GGUF file, an exported folder or a model.
        uncertified: take an export that is not certified, or changed since.

    Raises:
        StropError: the run or the model cannot be used.
    """
    if not Path(name).is_dir():
        check_name(name)
    if name not in PACKAGED and importlib.util.find_spec("xllamacpp") is not None:
        from strop.serving.engine import Engine
        from strop.serving.served import at_hand

        if (model := at_hand(name, uncertified=uncertified)) is not None:
            adapters = [] if model.adapter is None else [model.adapter]
            engine = Engine(model.file, adapters=adapters, slots=1, day=model.day)
            number = 0 if adapters else None
            return lambda chat, most: engine.reply(chat, max_tokens=most, adapter=number)
    from strop.evaluation import opened
    from strop.exporting.certify.certified import check, is_export
    from strop.models.sampling import reply

    if not uncertified and is_export(Path(name)):
        check(Path(name))
    model_and_tokenizer = opened(name)
    return lambda chat, most: reply(*model_and_tokenizer, chat, max_new_tokens=most)
