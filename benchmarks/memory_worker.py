"""One training step in a process of its own: the most memory it took, as the system counts it.

Run as `python benchmarks/memory_worker.py MODEL_FOLDER SETUP.json`; prints one line of JSON.
"""

import ctypes
import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch

from strop.core.system.heap import return_large_blocks
from strop.forward.compact import install
from strop.models.loading import opened
from strop.models.meta_model import outline
from strop.planning.step import Setup

STATUS, MAPPINGS = Path("/proc/self/status"), Path("/proc/self/smaps")
TINY = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}  # fmt: skip


def resident(name: str) -> int:
    """Return VmRSS, the bytes in memory now, or VmHWM, the most there were."""
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


def mapped_weights() -> int:
    """Return the bytes of mapped safetensors files that are in memory now."""
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", MAPPINGS.read_text(), flags=re.MULTILINE)
    files = [part for part in parts if ".safetensors" in part.partition("\n")[0]]
    return sum(
        int(n) * 1024 for part in files for n in re.findall(r"^Rss: +(\d+)", part, re.MULTILINE)
    )


def train(model: Any, setup: Setup, steps: int) -> None:
    """Take optimizer steps on the rows of `setup`."""
    if setup.activations in ("checkpoint", "offload"):
        return_large_blocks()  # as strop.accelerate does
    compact, _ = install(
        model,
        activations=setup.activations,
        micro_batch_tokens=setup.micro_batch_tokens,
        linear_loss=True,
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    words = model.get_input_embeddings().num_embeddings
    ids = torch.randint(0, words, (len(setup.rows), max(setup.rows)))
    labels = ids.clone()
    labels[:, 0] = -100
    for _ in range(steps):
        micro_batches = compact.micro_batches(labels, {"input_ids": ids})
        assert micro_batches is not None
        compact.answer(micro_batches, labels, None).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def warm_up(activations: str) -> None:
    """Train a tiny model, so that the code and the threads of all libraries are in memory."""
    model = outline(TINY, bits=16, dtype=torch.float32, rank=16).to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(0.01)
    train(model, Setup(config=TINY, rows=(64,), dtype="float32", activations=activations), 2)


def measure(folder: str, setup: Setup) -> dict[str, int]:
    """Return what two training steps added to the memory of the process.

    The weights are mapped files, which come into memory as the first step reads them; those that
    loading read count, too. What loading freed is given back to the system before. No tokenizer is
    read: what reading Gemma's frees are 200 MB of room, which a step would then fill for good. The
    vocabulary is read before, as the tokens of a run come to do, and counts as the other weights.
    """
    from peft import LoraConfig, get_peft_model

    warm_up(setup.activations)
    model = opened(Path(folder), setup.bits, torch.float32)
    model.get_input_embeddings().weight.detach().sum()
    lora = LoraConfig(
        r=setup.rank, lora_alpha=setup.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora).train()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS") - mapped_weights()
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    train(model, setup, 2)
    return {"before": before, "peak": resident("VmHWM"), "increase": resident("VmHWM") - before}


if __name__ == "__main__":
    setup = Setup(**json.loads(Path(sys.argv[2]).read_text()))
    print(json.dumps(measure(sys.argv[1], setup)))
