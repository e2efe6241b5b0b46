"""Questions about documents: the sampler, which computes a document once, beside `generate` row by row.

Run as `python benchmarks/question_generation.py [--model smollm2-135m-instruct] [--rounds 2]`; writes
benchmarks/results/cpu/question_generation.json. Both ways draw `--tokens` tokens for each of four questions
about each of eight passages of SQuAD, with the same weights in bfloat16, in turns in one process.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from compare import RESULTS, circumstances
from retrieval import squad

import strop
from strop.core.files import write_json
from strop.data.encoding.chat import chat_ids
from strop.models import Sampling, sample
from strop.retrieval.raft.writer import WRITE, about

PASSAGES, EACH = 8, 4


def main() -> None:
    """Time both ways in turns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, default=RESULTS / "question_generation.json")
    options = parser.parse_args()
    model, tokenizer = strop.load(options.model, bits=16)
    model = model.to(torch.bfloat16)
    passages, _ = squad()
    step = len(passages) // PASSAGES
    texts = [text for _, text in passages[::step]][:PASSAGES]
    chats = [about(text, WRITE) for text in texts for _ in range(EACH)]
    settings = Sampling(options.tokens, min_new_tokens=options.tokens, temperature=0.8, top_p=0.95)
    ways: dict[str, Callable[[list[Any]], Any]] = {
        "sampler": lambda rows: sample(model, tokenizer, rows, settings),
        "generate": lambda rows: [generated(model, tokenizer, row, options.tokens) for row in rows],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        run(chats[:1])  # what is compiled or measured once
    for _ in range(options.rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            run(chats)
            seconds[way].append(time.perf_counter() - start)
            print(way, f"{seconds[way][-1]:.1f} s", flush=True)
    medians = {way: statistics.median(of) for way, of in seconds.items()}
    lengths = [len(chat_ids(tokenizer, chat)) for chat in chats]
    results = {
        "model": options.model,
        "rows": len(chats),
        "each": EACH,
        "tokens": options.tokens,
        "prompt_tokens": statistics.mean(lengths),
        "seconds": seconds,
        "median_seconds": medians,
        "times_as_fast": medians["generate"] / medians["sampler"],
    }
    write_json(options.out, results | circumstances())
    print(f"{results['times_as_fast']:.2f} times as fast")


def generated(model: Any, tokenizer: Any, chat: list[dict[str, Any]], tokens: int) -> str:
    """Return the answer of transformers' `generate` to one chat."""
    ids = torch.tensor([chat_ids(tokenizer, chat)])
    with torch.no_grad():
        rows = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=True,
            temperature=0.8,
            top_p=0.95,
            pad_token_id=0,
        )
    return str(tokenizer.decode(rows[0, ids.shape[1] :]))


if __name__ == "__main__":
    sys.exit(main())
