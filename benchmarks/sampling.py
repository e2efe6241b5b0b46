"""Time the sampler beside transformers' `generate` and llama.cpp, interleaved, in fresh processes.

Run as `python benchmarks/sampling.py [--case group mixed one] [--way ...] [--tokens 128] [--rounds 3]`;
adds its rounds to benchmarks/results/cpu/sampling.json. `group` is 8 answers to one prompt of 450
tokens, `mixed` 64 prompts of 20 to 400 tokens with answers of 1 to `--tokens`, for `generate` in batches
of 8 sorted by length, `one` a single answer to a prompt of 64. Beside seconds stand those of the
processor, which other programs on the machine disturb less. Rounds of an earlier commit are replaced.
"""

import argparse
import functools
import json
import os
import random
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances, in_a_process

from strop.core.files import write_json
from strop.core.system import versions

STROP = ("strop-float32", "strop-bfloat16", "strop-4bit")
WAYS = {
    "group": ("strop-float32", "generate-float32", "strop-bfloat16", "generate-bfloat16"),
    "mixed": ("strop-float32", "generate-float32", "strop-bfloat16", "generate-bfloat16"),
    "one": ("strop-bfloat16", "llama.cpp-f16", "strop-4bit", "llama.cpp-q4_0"),
}
RATIOS = {
    "group": {
        "float32": ("generate-float32", "strop-float32"),
        "bfloat16": ("generate-bfloat16", "strop-bfloat16"),
    },
    "one": {
        "16 bits": ("llama.cpp-f16", "strop-bfloat16"),
        "4 bits": ("llama.cpp-q4_0", "strop-4bit"),
    },
}
RATIOS["mixed"] = RATIOS["group"]
TEXT = Path("/usr/share/common-licenses/GPL-3")


def main() -> None:
    """Measure what the command line names; what the results file has of other cases stays."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", nargs="+", default=list(WAYS))
    parser.add_argument("--way", nargs="+")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "sampling.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(options)))
        return
    cases = json.loads(options.out.read_text())["cases"] if options.out.is_file() else {}
    commit = versions.commit()
    for case in options.case:
        runs = cases.setdefault(case, {}).setdefault("runs", {})
        for _ in range(options.rounds):
            for way in options.way or WAYS[case]:
                settings = ["--case", case, "--way", way, "--tokens", str(options.tokens)]
                settings += ["--threads", str(options.threads)]
                run = in_a_process(
                    Path(__file__).name, "--worker", *settings, "--model", options.model
                )
                print(case, way, run, flush=True)
                earlier = [r for r in runs.get(way, []) if r["commit"] == commit]
                runs[way] = [*earlier, {**run, "commit": commit}]
                cases[case] = summed_up(case, runs)
                write_json(options.out, {"model": options.model, "cases": cases, **surroundings()})


def summed_up(case: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the runs of a case, their medians, and how many times as fast strop is."""
    summary: dict[str, Any] = {}
    for by in ("seconds", "processor_seconds"):
        medians = {way: statistics.median(r[by] for r in of) for way, of in runs.items()}
        ratios = {
            name: medians[other] / medians[way]
            for name, (other, way) in RATIOS[case].items()
            if other in medians and way in medians
        }
        summary[by] = {"medians": medians, "times_as_fast": ratios}
    return summary | {"runs": runs}


def surroundings() -> dict[str, Any]:
    """Return what `circumstances` does, and the processor's units for products."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    names = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return circumstances("xllamacpp") | {"units": [name for name in names if name in flags]}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return what one way takes for a case, after a warm-up."""
    import torch

    import strop

    torch.set_num_threads(options.threads)
    side, _, form = options.way[0].partition("-")
    model, tokenizer = strop.load(options.model, bits=4 if form == "4bit" else 16)
    if form in ("float32", "bfloat16"):
        model = model.to(getattr(torch, form))
    prompts, lengths = rows(tokenizer, options.case[0], options.tokens)
    runs = {"strop": by_sampler, "generate": by_generate}
    if side == "llama.cpp":
        run: Any = LlamaCpp(model, tokenizer, form, options.threads)
    else:
        run = functools.partial(runs[side], model, tokenizer)
    run([prompts[0][:16]], [2])
    start, processor = time.perf_counter(), time.process_time()
    run(prompts, lengths)
    seconds = time.perf_counter() - start
    spent = time.process_time() - processor
    return {
        "seconds": seconds,
        "processor_seconds": spent,
        "tokens_per_second": sum(lengths) / seconds,
        "threads": options.threads,
        "tokens": sum(lengths),
    }


class LlamaCpp:
    """llama.cpp's server on a GGUF of the model."""

    def __init__(self, model: Any, tokenizer: Any, quant: str, threads: int) -> None:
        import xllamacpp

        from strop.exporting.gguf.writer import GgufFile
        from strop.exporting.weights.base_weights import StoredBase
        from strop.exporting.weights.tuned import BaseWeights
        from strop.models.assets import load_assets

        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        assets = load_assets(folder)
        gguf = GgufFile(BaseWeights(StoredBase(assets)), assets, quant)
        gguf.write(folder / "model.gguf", lambda size: None)
        settings = xllamacpp.CommonParams()
        settings.model.path = str(folder / "model.gguf")
        settings.n_ctx, settings.n_parallel, settings.verbosity = 1024, 1, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = len(
            os.sched_getaffinity(0)
        )
        self._server = xllamacpp.Server(settings)

    def __call__(self, prompts: list[list[int]], lengths: list[int]) -> None:
        """Draw all answers, one after the other."""
        for prompt, length in zip(prompts, lengths, strict=True):
            body = {"prompt": prompt, "n_predict": length, "temperature": 1.0, "top_k": 0}
            body |= {"top_p": 1.0, "min_p": 0.0, "ignore_eos": True, "cache_prompt": False}
            request = urllib.request.Request(
                f"{self._server.listening_address}/completion",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                assert json.loads(answer.read())["tokens_predicted"] == length


def rows(tokenizer: Any, case: str, tokens: int) -> tuple[list[list[int]], list[int]]:
    """Return prompts as ids and the length of each answer."""
    ids = tokenizer(TEXT.read_text())["input_ids"]
    if case == "group":
        return [ids[:450]] * 8, [tokens] * 8
    if case == "one":
        return [ids[:64]], [tokens]
    rng = random.Random(0)
    sizes = [rng.randint(20, 400) for _ in range(64)]
    starts = [rng.randrange(len(ids) - 400) for _ in sizes]
    prompts = [ids[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return prompts, [rng.randint(1, tokens) for _ in sizes]


def by_sampler(model: Any, tokenizer: Any, prompts: list[list[int]], lengths: list[int]) -> None:
    """Draw all answers by strop."""
    import strop

    settings = [
        strop.Sampling(temperature=1.0, max_new_tokens=n, min_new_tokens=n) for n in lengths
    ]
    strop.sample(model, tokenizer, prompts, settings)


def by_generate(model: Any, tokenizer: Any, prompts: list[list[int]], lengths: list[int]) -> None:
    """Draw all answers by transformers, in batches of 8 sorted by length, padded left."""
    import torch

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), 8):
        batch = order[first : first + 8]
        T, most = max(len(prompts[i]) for i in batch), max(lengths[i] for i in batch)
        padding = [T - len(prompts[i]) for i in batch]
        ids = torch.tensor([[0] * n + prompts[i] for n, i in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * n + [1] * (T - n) for n in padding])
        model.generate(
            ids, attention_mask=mask, max_new_tokens=most, min_new_tokens=most, do_sample=True,
            temperature=1.0, top_k=0,
        )  # fmt: skip


if __name__ == "__main__":
    main()
