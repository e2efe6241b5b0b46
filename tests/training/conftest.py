import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny import save_tiny_llama


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of two layers with a byte tokenizer and a chat template."""
    return save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")
