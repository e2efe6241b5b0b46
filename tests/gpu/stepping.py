"""Whole training steps on fake CUDA tensors: which kernels of strop are launched, which of PyTorch's.

Run in a process with the fake device; prints a line of JSON for each model. Launches only compile.
"""

import json
import sys

import triton
from torch.utils._python_dispatch import TorchDispatchMode

from strop.core.dataless import launch_without_data
from strop.planning.setup import Setup
from strop.planning.simulate import simulate_here
from strop.testing.gpu.launching import NoCard

LLAMA = {
    "model_type": "llama", "vocab_size": 301, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA = LLAMA | {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 64}
STEPS = {
    "Llama, QLoRA": {"config": LLAMA},
    "Llama, LoRA": {"config": LLAMA, "bits": 16, "policy": "keep"},
    "Llama, LoRA, offload": {"config": LLAMA, "bits": 16, "policy": "offload"},
    "Gemma 3, QLoRA": {"config": GEMMA},
}


class Called(TorchDispatchMode):
    """Takes note of PyTorch's operators."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name().removeprefix("aten::").split(".")[0])
        return func(*args, **(kwargs or {}))


def step(settings):
    """Return the kernels and operators of one step."""
    launched = set()

    def launcher(source, metadata):
        *_, operation, _ = source.fn.module.split(".")
        return lambda *arguments, **options: launched.add(f"{operation}.{source.fn.__name__}")

    card = NoCard("sm_90")
    card.launcher_cls = launcher
    triton.runtime.driver.set_active(card)
    with Called() as called:
        simulate_here(
            Setup(**{"rows": (100, 70), "dtype": "bfloat16", "device": "cuda"} | settings)
        )
    return {"kernels": sorted(launched), "operators": sorted(called.names)}


if __name__ == "__main__":
    launch_without_data()
    for name, settings in STEPS.items():
        sys.stdout.write(json.dumps({"step": name} | step(settings)) + "\n")
