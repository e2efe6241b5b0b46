"""Divergence from the original at given bytes: strop's formats, plain NF4, and NF4 with 16-bit layers.

Run as `python benchmarks/quantization.py [--models NAME …]`. Each packaged model is first moved off
the 4-bit grid that its file lies on, by uniform noise of one step, and the result is the original.
Calibrated on strop's packaged text; measured on other texts.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from compare import RESULTS, circumstances
from torch import Tensor, nn

from strop.core.files import write_json
from strop.models import load
from strop.models.quantized.block_runner import take_apart
from strop.models.quantized.calibration_text import LENGTH, sequences
from strop.quantization.allocation import Knapsack, Option
from strop.quantization.block import Decoder
from strop.quantization.calibration import LayerStats, calibrate
from strop.quantization.choices import NF4_FORMAT, Choices, choices, expected_kl
from strop.quantization.compress import Calibrated, HeldOut, compress

MODELS = ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct")
BUDGETS = (1.0, 1.1)
DATA = Path(__file__).parents[1] / ".cache" / "data"
EACH = 2
"""Held-out sequences of each text."""


def main() -> None:
    """Measure what the command line names, each way in a process of its own; keep what was there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--budgets", nargs="*", type=float, default=BUDGETS)
    parser.add_argument("--skip-command", action="store_true", help="do not time the command")
    parser.add_argument("--one", nargs=2, help="measure this model at this budget, print JSON")
    parser.add_argument("--out", type=Path, default=RESULTS / "quantization.json")
    options = parser.parse_args()
    if options.one:
        name, budget = options.one
        print(json.dumps(measured(name, float(budget))))
        return
    models = json.loads(options.out.read_text())["models"] if options.out.is_file() else {}
    for model in options.models:
        of = models.setdefault(model, {"ways": {}})
        for budget in options.budgets:
            way = in_a_process("--one", model, str(budget))
            of["ways"][str(budget)] = way | {"commit": circumstances()["commit"]}
            of["ratios"] = ratios(of["ways"])
            write_json(options.out, {"name": "quantization", "models": models, **circumstances()})
        if not options.skip_command:
            of["seconds_of_command"] = seconds_of_command(model)
            write_json(options.out, {"name": "quantization", "models": models, **circumstances()})


def in_a_process(*arguments: str) -> dict[str, Any]:
    """Run this script and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def seconds_of_command(model: str) -> float:
    """Return how long `strop quantize` takes, from start to written folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            Path(sys.executable).with_name("strop"),
            "quantize",
            model,
            "--out",
            f"{folder}/out",
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return round(time.perf_counter() - start, 1)


def measured(name: str, budget: float) -> dict[str, Any]:
    """Return the bytes and the divergence of three ways to store a model within a budget."""
    model, tokenizer = load(name, bits=32)
    model.requires_grad_(False)
    dither(model)
    calibration, _ = sequences(tokenizer, None, model)
    held_out = [row for text in texts() for row in cut(tokenizer, text)]
    decoder, entering = take_apart(model, [*calibration, *held_out])
    start, count = time.perf_counter(), len(calibration)
    layers = calibrate(decoder, entering[:count], progress)
    offered = choices(decoder, layers, progress)
    chosen = offered.within(budget)
    whole = whole_layers(decoder, layers, offered, budget)
    baselines = {"nf4": nf4}
    if whole:
        baselines["nf4_and_16_bit"] = lambda name, w: w if name in whole else nf4(name, w)
    known = Calibrated(entering[:count], layers)
    evaluation = HeldOut(entering[count:], held_out)
    formats = offered.formats(chosen)
    result = compress(decoder, known, evaluation, formats, progress, baselines)
    return {
        "nf4_bytes": offered.nf4_bytes,
        "bytes_over_nf4": sum(o.bytes for o in chosen.values()) / offered.nf4_bytes,
        "expected_kl": sum(o.kl for o in chosen.values()),
        "held_out_tokens": len(held_out) * LENGTH,
        "seconds_of_passes": round(time.perf_counter() - start, 1),
        "measured": {key: dataclasses.asdict(value) for key, value in result.measured.items()},
        "formats": {name: form.name for name, form in formats.items()},
        "layers_in_16_bit": sorted(whole),
    }


def ratios(ways: dict[str, Any]) -> dict[str, float]:
    """Return strop's divergence over NF4's at each budget, and of 16-bit layers over strop's."""
    quotients = {}
    for budget, way in ways.items():
        kl = {key: of["kl"] for key, of in way["measured"].items()}
        quotients[f"strop_at_{budget}_over_nf4"] = kl["strop"] / kl["nf4"]
        if "nf4_and_16_bit" in kl:
            quotients[f"nf4_and_16_bit_over_strop_at_{budget}"] = kl["nf4_and_16_bit"] / kl["strop"]
    return quotients


def dither(model: Any) -> None:
    """Move the linear weights of a model off the grid of its 4-bit file, by up to half a step."""
    rng = torch.Generator().manual_seed(0)
    for layer in model.get_decoder().layers.modules():
        if isinstance(layer, nn.Linear):
            x = layer.weight.reshape(-1, 32)
            step = (x.amax(1, keepdim=True) - x.amin(1, keepdim=True)) / 15
            noise = torch.rand(x.shape, generator=rng) - 0.5
            layer.weight.copy_((x + noise * step).view_as(layer.weight))


def texts() -> list[str]:
    """Return texts that nothing is calibrated on: instructions with answers, Python's reference."""
    from pydoc_data.topics import topics

    rows = json.loads((DATA / "alpaca.json").read_text(encoding="utf-8"))
    examples = (f"{r['instruction']} {r['input']}\n{r['output']}" for r in rows)
    return ["\n\n".join(examples), "\n".join(topics.values())]


def cut(tokenizer: Any, text: str) -> list[Tensor]:
    """Return the first sequences of a text."""
    ids = tokenizer(text[: EACH * LENGTH * 10], return_tensors="pt").input_ids[0]
    return list(ids[: EACH * LENGTH].view(EACH, LENGTH))


def nf4(name: str, weight: Tensor) -> Tensor:
    """Return a weight as bitsandbytes stores it: NF4, its scales quantised once more."""
    import bitsandbytes.functional as bnb

    codes, state = bnb.quantize_4bit(
        weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    dense: Tensor = bnb.dequantize_4bit(codes, state)
    return dense


def whole_layers(
    decoder: Decoder, layers: dict[str, LayerStats], offered: Choices, budget: float
) -> set[str]:
    """Return the layers that stay in 16 bits where all others are NF4, by the same sensitivities."""
    options: dict[str, list[Option]] = {}
    for i, block in enumerate(decoder.blocks):
        for name, module in block.named_modules(prefix=decoder.names[i]):
            if isinstance(module, nn.Linear):
                layer, weight = layers[name], module.weight
                rows = torch.arange(len(weight))
                kl = expected_kl(layer, weight - nf4(name, weight), rows, layer.energy)
                options[name] = [
                    Option("nf4", NF4_FORMAT.stored_bytes(layer.shape), kl),
                    Option("16", 2 * weight.numel(), 0.0),
                ]
    chosen = Knapsack(options).within(int(budget * offered.nf4_bytes))
    return {name for name, option in chosen.items() if option.format == "16"}


def progress(stage: str, done: int, total: int) -> None:
    """Say on standard error how far a measurement is."""
    if done % 10 == 0 or done == total:
        print(f"  {stage} {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
