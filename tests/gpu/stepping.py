"""Whole training steps on fake CUDA tensors: which kernels of strop are launched, which of PyTorch's.

Run in a process with the fake device; prints a line of JSON for each model. Launches only compile.
"""

import dataclasses
import json
import sys

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from strop.core.dataless import launch_without_data
from strop.planning.memory import simulate_here
from strop.planning.step import Setup
from strop.testing.gpu.launching import NoCard

LLAMA = {
    "model_type": "llama", "vocab_size": 301, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA = LLAMA | {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 64}
COMMON = {"rows": (100, 70), "dtype": "bfloat16", "device": "cuda"}
STEPS = {
    "Llama, QLoRA": {"config": LLAMA},
    "Llama, LoRA": {"config": LLAMA, "bits": 16, "activations": "keep"},
    "Llama, LoRA, offload": {"config": LLAMA, "bits": 16, "activations": "offload"},
    "Gemma 3, QLoRA": {"config": GEMMA},
}


class Called(TorchDispatchMode):
    """Takes note of PyTorch's operators on tensors that are not on the CPU."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if any(t.device.type != "cpu" for t in tensors):
            self.names.add(func.name().removeprefix("aten::").split(".")[0])
        return func(*args, **(kwargs or {}))


class Card(NoCard):
    """Takes note of launches."""

    def __init__(self):
        super().__init__("sm_90")
        self.launched = set()

    def launcher_cls(self, source, metadata):
        *_, operation, _ = source.fn.module.split(".")
        name = f"{operation}.{source.fn.__name__}"
        return lambda *arguments, **options: self.launched.add(name)


def step(card, settings):
    """Return the kernels and operators of one step, and what it holds and computes."""
    card.launched.clear()
    with Called() as called:
        found = simulate_here(Setup(**COMMON | settings))
    return {
        "kernels": sorted(card.launched),
        "operators": sorted(called.names),
        **dataclasses.asdict(found),
    }


if __name__ == "__main__":
    launch_without_data()
    card = Card()
    triton.runtime.driver.set_active(card)
    for name, settings in STEPS.items():
        sys.stdout.write(json.dumps({"step": name} | step(card, settings)) + "\n")
