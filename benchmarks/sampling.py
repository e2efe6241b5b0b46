"""Time the sampler beside transformers' `generate`, interleaved, each measurement in a fresh process.

Run as `python benchmarks/sampling.py [--case group mixed one] [--tokens 128] [--rounds 3]`; writes
benchmarks/results/cpu/sampling.json. `group` is 8 answers to one prompt of 450 tokens, `mixed` 64
prompts of 20 to 400 tokens with answers of 1 to `--tokens`, for `generate` in batches of 8 sorted by
length, `one` a single answer to a prompt of 64. Beside seconds stand those of the processor, which
other programs on the machine disturb less.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

from strop.core.files import write_json

WAYS = ("strop", "strop-4bit", "generate-float32", "generate-bfloat16")
TEXT = Path("/usr/share/common-licenses/GPL-3")


def main() -> None:
    """Measure what the command line names; what the results file has of other cases stays."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", nargs="+", default=["group", "mixed", "one"])
    parser.add_argument("--way", nargs="+", default=WAYS)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "sampling.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measured(options.model, options.way[0], options.case[0], options.tokens)))
        return
    cases = json.loads(options.out.read_text())["cases"] if options.out.is_file() else {}
    for case in options.case:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in options.way}
        for _ in range(options.rounds):
            for way in options.way:
                settings = ["--case", case, "--way", way, "--tokens", str(options.tokens)]
                command = [
                    sys.executable,
                    __file__,
                    "--worker",
                    *settings,
                    "--model",
                    options.model,
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(case, way, runs[way][-1], flush=True)
        middles = {
            way: {key: statistics.median(run[key] for run in of_way) for key in of_way[0]}
            for way, of_way in runs.items()
        }
        cases[case] = {"tokens": options.tokens, "rounds": options.rounds, "ways": middles}
    write_json(options.out, {"model": options.model, "cases": cases, **circumstances()})


def measured(name: str, way: str, case: str, tokens: int) -> dict[str, Any]:
    """Return what one way takes for a case, after a warm-up."""
    import torch

    import strop

    bits = {"strop": 16, "strop-4bit": 4}.get(way, 32)
    model, tokenizer = strop.load(name, bits=bits)
    if way.startswith("generate"):
        model = model.to(getattr(torch, way.removeprefix("generate-")))
    prompts, lengths = rows(tokenizer, case, tokens)
    run = by_sampler if way.startswith("strop") else by_generate
    run(model, tokenizer, [prompts[0][:16]], [2])
    start, processor = time.perf_counter(), time.process_time()
    run(model, tokenizer, prompts, lengths)
    seconds = time.perf_counter() - start
    spent = time.process_time() - processor
    return {
        "seconds": seconds,
        "processor_seconds": spent,
        "tokens_per_second": sum(lengths) / seconds,
        "threads": torch.get_num_threads(),
    }


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
