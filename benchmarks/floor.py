"""The floor: the matrix products that the mathematics of one step requires, and nothing else.

Run as `python benchmarks/floor.py ROWS.json MODEL_FOLDER [unshared] [bfloat16]`; prints one line of JSON
with the seconds of each step, where every row is computed by itself if `unshared`, in float32 or
bfloat16. Every product is timed with `torch.mm` or `torch.bmm` at the size it has in training, each
layer with weights of its own, results written to memory that is already there.

Counted: linear layers forward and towards their input, for every token up to the last that
predicts a supervised one, prefixes that rows share counted once; the adapter folded into each
weight once, and its four products of the adapter's rank in backward; the head forward and back on
supervised rows; the causal half of attention, two products forward and four backward. Nothing
flows back below the first layer's own adapters.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import clock
import torch
from modes import RANK
from torch import Tensor

from strop.core.tokens import common_prefix

SHARED_FROM = 16
"""A common prefix shorter than this is computed once per row."""
QUERIES = 256
"""Attention's products run over this many queries at once, so that scores stay small."""
HEAD_ROWS = 256
"""The head's products run over this many rows at once."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-like model."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, folder: Path) -> "Shape":
        """Read the sizes from a model's `config.json`."""
        c = json.loads((folder / "config.json").read_text())
        return cls(
            c["num_hidden_layers"],
            c["hidden_size"],
            c["intermediate_size"],
            c["num_attention_heads"],
            c["num_key_value_heads"],
            c["head_dim"],
            c["vocab_size"],
        )

    def linears(self) -> list[tuple[int, int]]:
        """Return [out, in] of a block's linear layers: q, k, v first."""
        q, kv, D, F = (
            self.heads * self.head_size,
            self.key_heads * self.head_size,
            self.width,
            self.inner,
        )
        return [(q, D), (kv, D), (kv, D), (D, q), (F, D), (F, D), (D, F)]


@dataclasses.dataclass(frozen=True)
class Work:
    """What one step must compute."""

    tokens: int
    supervised: int
    runs: list[tuple[int, int]]
    """For each run of tokens, its length and how many tokens before it are shared with others."""


def runs(rows: Sequence[list[int]], start: int = 0) -> list[tuple[int, int]]:
    """Return (own length, ancestors) of each run when rows that begin alike share their prefix.

    The rows must be sorted.
    """
    lengths: list[tuple[int, int]] = []
    i = 0
    while i < len(rows):
        shared, j = len(rows[i]), i + 1
        while j < len(rows):
            common = common_prefix(rows[i], rows[j])
            if common - start < SHARED_FROM:
                break
            shared, j = min(shared, common), j + 1
        if j == i + 1:
            lengths.append((len(rows[i]) - start, start))
        else:
            lengths.append((shared - start, start))
            lengths.extend(runs([row for row in rows[i:j] if len(row) > shared], shared))
        i = j
    return [run for run in lengths if run[0] > 0]


def work_of(sequences: list[tuple[list[int], int]], *, shared: bool = True) -> Work:
    """Return what one step over these sequences must compute."""
    inputs = [ids[:-1] for ids, _ in sequences]  # the last token is predicted, never read
    lengths = runs(sorted(inputs)) if shared else [(len(ids), 0) for ids in inputs]
    return Work(
        tokens=sum(length for length, _ in lengths),
        supervised=sum(len(ids) - start for ids, start in sequences),
        runs=lengths,
    )


class Products:
    """Times the products of a step; memory and weights are made once."""

    def __init__(self, shape: Shape, steps: Sequence[Work]) -> None:
        most_tokens = max(max(work.tokens, work.supervised) for work in steps)
        longest = max(sum(run) for work in steps for run in work.runs)
        self.shape = shape
        make = torch.randn
        self.weights = [[make(o, i) for o, i in shape.linears()] for _ in range(shape.layers)]
        self.adapters = [(make(RANK, i), make(o, RANK)) for o, i in shape.linears()]
        self.head = make(shape.vocabulary, shape.width)
        self.inputs = {i: make(most_tokens, i) for _, i in shape.linears()}
        self.outputs = {o: make(most_tokens, o) for o, _ in shape.linears()}
        per_head = (shape.heads, longest, shape.head_size)
        self.queries, self.keys = make(shape.heads, QUERIES, shape.head_size), make(per_head)
        self.queries_out, self.keys_out = torch.zeros_like(self.queries), torch.zeros(per_head)
        widest = max(max(w.shape) for w in self.weights[0])
        largest = max(most_tokens * widest, widest * widest, shape.heads * QUERIES * longest)
        self.scratch = torch.zeros(largest)
        self.tile = torch.zeros(HEAD_ROWS, shape.vocabulary)

    def into(self, *sizes: int) -> Tensor:
        """Return memory of these sizes, overwritten by the next product."""
        return self.scratch[: torch.Size(sizes).numel()].view(sizes)

    def linear(self, N: int, weight: Tensor, index: int, *, towards_input: bool) -> None:
        """Run one linear layer with its adapter, forward and backward, on N tokens."""
        (J, K), (A, B) = weight.shape, self.adapters[index]  # J outputs, K inputs
        x, dy = self.inputs[K][:N], self.outputs[J][:N]
        torch.mm(B, A, out=self.into(J, K))  # folding
        torch.mm(x, weight.T, out=self.into(N, J))
        if towards_input:
            torch.mm(dy, weight, out=self.into(N, K))
        dyB = torch.mm(dy, B)
        xA = torch.mm(x, A.T)
        torch.mm(dyB.T, x, out=self.into(RANK, K))
        torch.mm(dy.T, xA, out=self.into(J, RANK))

    def attention(self, length: int, ancestors: int, *, gradient: bool) -> None:
        """Run the products of one run's attention, a tile of queries at a time.

        A tile meets the keys before it and, of its own, on average half.
        """
        H = self.shape.heads
        for start in range(0, length, QUERIES):
            size = min(QUERIES, length - start)
            keys = ancestors + start + (size + 1) // 2
            q, k = self.queries[:, :size], self.keys[:, :keys]
            scores = self.into(H, size, keys)
            torch.bmm(q, k.transpose(1, 2), out=scores)
            torch.bmm(scores, k, out=self.queries_out[:, :size])
            if gradient:
                torch.bmm(q, k.transpose(1, 2), out=scores)
                torch.bmm(scores, k, out=self.queries_out[:, :size])
                for _ in range(2):
                    torch.bmm(scores.transpose(1, 2), q, out=self.keys_out[:, :keys])

    def forward_only(self, work: Work) -> None:
        """Run a pass that needs no gradient, as that of a reference model."""
        for layer in self.weights:
            for weight in layer:
                J, K = weight.shape
                torch.mm(self.inputs[K][: work.tokens], weight.T, out=self.into(work.tokens, J))
            for length, ancestors in work.runs:
                self.attention(length, ancestors, gradient=False)
        self.head_rows(work.supervised, gradient=False)

    def head_rows(self, M: int, *, gradient: bool) -> None:
        """Run the head on M supervised rows, a tile at a time."""
        hidden = self.inputs[self.shape.width]
        for start in range(0, M, HEAD_ROWS):
            size = min(HEAD_ROWS, M - start)
            logits = self.tile[:size]
            torch.mm(hidden[:size], self.head.T, out=logits)
            if gradient:
                torch.mm(logits, self.head, out=self.into(size, self.shape.width))

    def step(self, work: Work, forwards_without_gradient: int) -> float:
        """Return the seconds of one step's products."""
        began = clock.now()
        for _ in range(forwards_without_gradient):
            self.forward_only(work)
        for depth, layer in enumerate(self.weights):
            for index, weight in enumerate(layer):
                read_below = depth > 0 or index > 2  # q, k, v of the first layer read embeddings
                self.linear(work.tokens, weight, index, towards_input=read_below)
            for length, ancestors in work.runs:
                self.attention(length, ancestors, gradient=True)
        self.head_rows(work.supervised, gradient=True)
        return clock.now() - began


def measure(rows: Path, model_folder: Path, *, shared: bool) -> dict[str, Any]:
    """Return the floor of every step of a workload."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    workload = json.loads(rows.read_text())
    per_step = workload["rows_per_step"]
    steps = [
        work_of([s for row in workload["sequences"][i : i + per_step] for s in row], shared=shared)
        for i in range(0, len(workload["sequences"]), per_step)
    ]
    products = Products(Shape.of(model_folder), steps)
    extra = workload["forwards_without_gradient"]
    products.step(steps[0], extra)
    with torch.no_grad():
        seconds = [products.step(work, extra) for work in steps]
    return {
        "mode": "floor",
        "seconds": seconds,
        "tokens": [work.tokens for work in steps],
        "supervised": [work.supervised for work in steps],
    }


if __name__ == "__main__":
    shared = "unshared" not in sys.argv[3:]
    if "bfloat16" in sys.argv[3:]:
        torch.set_default_dtype(torch.bfloat16)
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), shared=shared)))
