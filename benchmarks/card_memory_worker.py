"""Answers what a training step needs of a card, one line of JSON a question, with a fake CUDA device.

Run `python -m strop.core.simulated.fake_cuda card_memory_worker` here. A question names a model of
`card_models.py`, how many of its blocks to take, tokens, bits, and a mode of activations; "plain" is
transformers + PEFT + bitsandbytes with gradient checkpointing, "plain-keep" without.
"""

import dataclasses
import json
import sys
import warnings
from typing import Any

import torch
import transformers
from card_models import MODELS
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig

from strop.core.simulated.allocations import Allocations
from strop.planning.flops import Flops
from strop.planning.memory import FakeDevice, place, simulate_here
from strop.planning.step import Setup

RANK = 16


def flash(module: Any, query: Any, key: Any, value: Any, mask: Any, **settings: Any) -> Any:
    """Attend by the flash kernel that PyTorch ships, which a CPU build would not choose."""
    outputs = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, True, scale=settings.get("scaling")
    )
    return outputs[0].transpose(1, 2), None


def never(*args: Any) -> Any:
    """Stand for a kernel: fake tensors ask only whether there is one, else they take it apart."""
    raise AssertionError(args)


_KERNELS = torch.library.Library("aten", "IMPL", "CUDA")
if torch.version.cuda is None:
    _KERNELS.impl("silu_backward", never)
AttentionInterface.register("attention-on-fake", flash)
AttentionMaskInterface.register("attention-on-fake", lambda *args, **settings: None)


def ours(question: dict[str, Any]) -> dict[str, Any]:
    """Return what strop's step needs."""
    config = MODELS[question["model"]] | {"num_hidden_layers": question["blocks"]}
    setup = Setup(
        config=config, rows=tuple(question["rows"]), bits=question["bits"], dtype="bfloat16",
        rank=RANK, activations=question["activations"], device="cuda",
    )  # fmt: skip
    return dataclasses.asdict(simulate_here(setup))


def in_four_bits(model: Any) -> None:
    """Put an empty layer of bitsandbytes in the place of each linear layer in the blocks."""
    import bitsandbytes as bnb

    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, child in [*parent.named_children()]:
                if isinstance(child, nn.Linear):
                    new = bnb.nn.Linear4bit(
                        child.in_features, child.out_features, bias=child.bias is not None,
                        compute_dtype=torch.bfloat16, quant_type="nf4", device="meta",
                    )  # fmt: skip
                    setattr(parent, name, new)
    model.is_loaded_in_4bit = True


def apart(model: Any) -> list[tuple[Any, str, Any]]:
    """Take the layers of bitsandbytes out of a model and return each with where it stood."""
    import bitsandbytes as bnb

    layers = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, bnb.nn.Linear4bit)
    ]
    for parent, name, _ in layers:
        setattr(parent, name, nn.Identity())
    return layers


def fill(linear: Any) -> None:
    """Give a layer of bitsandbytes a quantised weight, as its `Params4bit` cannot hold a fake one."""
    from bitsandbytes import functional

    shape = linear.out_features, linear.in_features
    codes, state = functional.quantize_4bit(
        torch.empty(shape, dtype=torch.bfloat16, device="cuda"),
        blocksize=64, compress_statistics=True, quant_type="nf4",
    )  # fmt: skip
    weight: Any = nn.Parameter(codes, requires_grad=False)
    weight.quant_state, weight.bnb_quantized, weight.compress_statistics = state, True, True
    weight.quant_type, weight.blocksize, weight.quant_storage = "nf4", 64, torch.uint8
    weight.module = linear
    linear._parameters["weight"], linear.quant_state = weight, state


def plain(question: dict[str, Any]) -> dict[str, Any]:
    """Return what a step of transformers with PEFT and, in 4 bits, bitsandbytes needs."""
    config = MODELS[question["model"]] | {"num_hidden_layers": question["blocks"]}
    kind = config.pop("model_type")
    known = AutoConfig.for_model(kind, attn_implementation="attention-on-fake", **config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(known, dtype=torch.bfloat16)
    fake, seen = FakeDevice(), Allocations("cuda")
    if question["bits"] == 4:
        in_four_bits(model)
    lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora, low_cpu_mem_usage=True).train()
    layers = []
    if question["bits"] == 4:
        for name, module in tuned.named_modules():
            if ".lora_" in name and isinstance(module, nn.Linear):
                module.to(torch.bfloat16)  # as TRL does for QLoRA
        layers = apart(tuned)
    place(tuned, fake, "cuda")
    if layers:
        from bitsandbytes import functional

        functional.name2qmap["dynamic"] = functional.create_dynamic_map()  # reads its numbers
    for parent, name, new in layers:
        with fake:
            if new.bias is not None:
                bias = torch.empty(new.bias.shape, dtype=torch.bfloat16, device="cuda")
                new.bias = nn.Parameter(bias, requires_grad=False)
            fill(new)
        setattr(parent, name, new)
    with torch.autograd.set_multithreading_enabled(False), fake:
        return plain_step(tuned, question, seen)


def plain_step(tuned: Any, question: dict[str, Any], seen: Allocations) -> dict[str, Any]:
    """Return what two steps of a model need, under the fake mode."""
    if question["activations"] == "plain":
        tuned.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        tuned.enable_input_require_grads()
    trained = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    rows = question["rows"]
    ids = torch.zeros(len(rows), rows[0], dtype=torch.int64, device="cuda")
    seen.claim("weights", (*tuned.parameters(), *tuned.buffers(), ids))
    for module in tuned.modules():
        if (state := getattr(module, "quant_state", None)) is not None:
            nested = state.state2
            parts = (state.absmax, state.code, state.offset, nested.absmax, nested.code)
            seen.claim("weights", parts)
    phases: dict[str, int] = {}
    with seen:
        for _ in range(2):
            with Flops() as flops:
                seen.restart()
                loss = tuned(input_ids=ids, labels=ids).loss
                phases["forward"] = seen.peak
                seen.restart()
                loss.backward()
                phases["backward"] = seen.peak
                del loss
                seen.restart()
                optimizer.step()
                phases["optimizer"] = seen.peak
                optimizer.zero_grad()
    return {"peak": max(phases.values()), "phases": phases, "flops": flops.total}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        question = json.loads(line)
        answer = plain if question["activations"].startswith("plain") else ours
        print(json.dumps(answer(question)), flush=True)
