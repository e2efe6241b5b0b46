"""Divergence of GGUF files at given bytes: formats chosen tensor by tensor beside one for all.

Run as `python benchmarks/gguf_dynamic.py [--ways q4_0 dynamic-1.10 …]`. SmolLM2-135M is first moved
off the 4-bit grid that its file lies on, by uniform noise of one step, and the result is the
original. Each file is opened by llama.cpp, and its next-token distributions are compared with the
original's in float32 on texts that nothing is calibrated on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from compare import RESULTS, circumstances
from quantization import cut, dither, progress, texts

from strop.core.files import write_json
from strop.exporting.gguf.llama_cpp import Llama
from strop.exporting.gguf.mixed_precision import DynamicGguf
from strop.exporting.gguf.quant_spec import forms
from strop.exporting.gguf.writer import GgufFile
from strop.exporting.weights.base_weights import StoredBase
from strop.exporting.weights.sensitivity import Sensitivity
from strop.exporting.weights.tuned import BaseWeights
from strop.metrics.divergence import agreement
from strop.models import load
from strop.models.assets import load_assets

MODEL = "smollm2-135m-instruct"
WAYS = ("q4_0", "q4_1", "q5_0", "iq4_nl", "dynamic-1.10", "dynamic-1.22")
"""q5_0 has 22 / 18 = 1.222 times the bytes of q4_0."""


def main() -> None:
    """Measure what the command line names, each in a process of its own; keep what was there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--one", help="measure this one, print JSON")
    parser.add_argument("--out", type=Path, default=RESULTS / "gguf_dynamic.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    ways = json.loads(options.out.read_text())["ways"] if options.out.is_file() else {}
    for way in options.ways:
        command = [sys.executable, __file__, "--one", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        ways[way] = json.loads(done.stdout.splitlines()[-1])
        results = {"name": "gguf_dynamic", "model": MODEL, "ways": ways, "ratios": ratios(ways)}
        write_json(options.out, results | circumstances())


def measured(way: str) -> dict[str, Any]:
    """Return bytes and divergence of one form."""
    model, tokenizer = load(MODEL, bits=32)
    model.requires_grad_(False)
    dither(model)
    held_out = [row for text in texts() for row in cut(tokenizer, text)]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        log_probs = torch.cat([model(input_ids=r[None]).logits[0, :-1] for r in held_out])
        del model
        file, start = Path(folder) / "model.gguf", time.perf_counter()
        assets = load_assets(folder)
        weights = BaseWeights(StoredBase(assets))
        (form,) = forms(way)
        gguf = (
            GgufFile(weights, assets, form.quant)
            if form.budget is None
            else DynamicGguf(Sensitivity(folder, weights, progress), assets, form.budget)
        )
        gguf.write(file, lambda size: None)
        seconds, size = time.perf_counter() - start, file.stat().st_size
        log_probs -= log_probs.logsumexp(-1, keepdim=True)
        with Llama(file, len(held_out[0])) as opened:
            ids = [row.tolist() for row in held_out]
            scores = agreement(ids, [0] * len(ids), log_probs, opened.logits)
    return {
        "bytes": size,
        "kl": scores.kl,
        "top1": scores.top1,
        "perplexity": scores.perplexity,
        "original_perplexity": scores.trained_perplexity,
        "tokens": scores.tokens,
        "seconds_to_write": round(seconds, 1),
    }


def ratios(ways: dict[str, Any]) -> dict[str, float]:
    """Return bytes and divergence of each way over those of q4_0 and q5_0."""
    return {
        f"{key}_of_{way}_over_{plain}": ways[way][key] / ways[plain][key]
        for plain in ("q4_0", "q5_0")
        for way in ways
        for key in ("bytes", "kl")
        if plain in ways and way != plain
    }


if __name__ == "__main__":
    main()
