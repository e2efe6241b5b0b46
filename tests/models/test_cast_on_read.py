"""A model whose files are in another format is opened as transformers opens it, in less memory."""

import subprocess
import sys

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from strop.models.files.opening import open_folder, read_config
from tests.tiny import COMMON, FAMILIES
from tests.tiny.saved import save_random

TEXT = {name: value for name, value in COMMON.items() if not name.endswith("_id")}
KINDS = FAMILIES | {
    "a mixture": ("MixtralConfig", {"num_local_experts": 4}),
    "float32 kept": ("Ernie4_5_MoeConfig", {"moe_num_experts": 4, "moe_k": 2}),
    "with pictures": ("Qwen3_5Config", {"text_config": TEXT | FAMILIES["qwen3.5"][1]}),
}

BYTES = """
import sys, torch
from pathlib import Path
from transformers import LlamaForCausalLM
from strop.models.files.opening import open_folder, read_config
from strop.planning.machine import peak_resident
folder = Path(sys.argv[1])
config = read_config(folder)
before = peak_resident()
model = open_folder(folder, config, torch.bfloat16)
held = sum(p.nbytes for p in model.parameters())
print(peak_resident() - before, held)
"""


def places(state):
    """Return of each tensor where it stands first: the same for those that are tied."""
    first = {}
    return [first.setdefault(id(tensor), i) for i, tensor in enumerate(state.values())]


@pytest.mark.parametrize("settings", [True, False], ids=["settings", "no settings"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_the_one_that_transformers_opens(kind, settings, tmp_path):
    name, special = KINDS[kind]
    config = getattr(transformers, name)(**COMMON | special)
    folder = save_random(config, tmp_path / "model")
    if not settings:
        (folder / "generation_config.json").unlink()
    model = open_folder(folder, read_config(folder), torch.bfloat16)
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert type(model) is type(other)
    assert model.training == other.training
    assert model.name_or_path == str(folder)
    assert model.config.to_dict() == other.config.to_dict()
    for part in ("_attn_implementation", "_experts_implementation"):
        assert getattr(model.config, part) == getattr(other.config, part)
    assert model.generation_config.to_dict() == other.generation_config.to_dict()
    ours, theirs = (m.state_dict(keep_vars=True) for m in (model, other))
    assert [*ours] == [*theirs]
    for key, tensor in ours.items():
        assert tensor.dtype == theirs[key].dtype, key
        assert torch.equal(tensor, theirs[key]), key
    assert places(ours) == places(theirs)
    for (key, buffer), (_, same) in zip(model.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(buffer, same), key


def test_the_files_are_not_held_beside_the_model(tmp_path):
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16}
    folder = save_random(transformers.LlamaConfig(**COMMON | sizes), tmp_path / "model")
    command = [sys.executable, "-c", BYTES, str(folder)]
    peak, held = map(int, subprocess.check_output(command, text=True).split())
    assert held > 100e6
    assert peak < 1.5 * held  # 3 times with the mapped files, which are twice as large


def test_a_large_embedding_is_read_in_blocks(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(**COMMON | sizes | {"vocab_size": 200_003})
    folder = save_random(config, tmp_path / "model")
    command = [sys.executable, "-c", BYTES, str(folder)]
    peak, held = map(int, subprocess.check_output(command, text=True).split())
    assert held > 100e6
    # 4 times with whole tensors: each twice in float32, and one in bfloat16
    assert peak < 1.8 * held
    model = open_folder(folder, read_config(folder), torch.bfloat16)
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    for (key, ours), (_, theirs) in zip(
        model.named_parameters(), other.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), key
