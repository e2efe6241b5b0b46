"""Runs on models whose files name tensors otherwise than memory does are exported and certified."""

import pytest

import strop
from strop.core.errors import UnsupportedError
from strop.exporting import export
from tests.export.test_file_names import (
    gemma3_with_images,
    gpt2_of_the_hub,
    gpt_oss,
    mixtral,
    olmoe,
    qwen3_moe,
)
from tests.tiny.saved import chats


@pytest.mark.slow  # they train, export and open models
@pytest.mark.filterwarnings("ignore")  # PEFT says of patterns it used that it did not
@pytest.mark.parametrize("kind", [mixtral, qwen3_moe, olmoe, gpt_oss, gpt2_of_the_hub, gemma3_with_images],
                         ids=lambda kind: kind.__name__)  # fmt: skip
def test_a_run_is_exported_and_certified(kind, tmp_path):
    settings = {"bits": 32, "max_steps": 2, "held_out": 4, "quiet": True, "out": tmp_path / "run"}
    settings["learning_rate"] = 2e-4  # longer steps bring logits of these random weights into ties
    run = strop.train(chats(24), model=str(kind(tmp_path / "model")), **settings)
    targets = ("adapter", "merged", "gguf") if kind is gemma3_with_images else ("adapter", "merged")
    exports = export(run, *targets)
    assert [e.certificate.faults for e in exports] == [()] * len(targets)
    if "gguf" not in targets:
        with pytest.raises(UnsupportedError, match=r"cannot be written as GGUF; .* --to merged"):
            export(run, "gguf")
