"""A finished run, which tests look at and copy."""

import pytest

import strop
from tests.tiny.saved import QUICK, save_chats


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """Train a tiny model on sums for three steps."""
    folder = tmp_path_factory.mktemp("finished")
    data = save_chats(folder / "sums.jsonl", 20)
    return strop.train(data, model=tiny_model, out=folder / "run", **QUICK)
