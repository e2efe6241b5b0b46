"""Memory and arithmetic of training steps on a card, simulated: strop beside the plain stack.

Run as `python benchmarks/card_memory.py`; writes `benchmarks/results/gpu/memory.json`. Nothing is
measured on a card. The headline runs all blocks of Llama-3-8B; elsewhere the blocks of a model are
alike, so that two depths are simulated and the rest follows in a straight line, which the headline
checks to the byte.
"""

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from card_models import MODELS
from compare import circumstances

from strop.core.files import write_json

HERE = Path(__file__).parent
RESULT = HERE / "results" / "gpu" / "memory.json"
TOKENS = (2048, 8192, 32768)
BITS = (4, 16)
ACTIVATIONS = ("checkpoint", "offload", "plain")
CARDS = (8, 16, 24, 80)
"""GiB."""
SPARE = 0.75 * 2**30
"""Of a card, what the CUDA context and the work space of libraries take; from experience."""
DEPTHS = (4, 8)
STEP = 512
"""Lengths that are tried are multiples of this."""


class Simulator:
    """A process that pretends to have a card and answers questions."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "strop.core.simulated.fake_cuda", "card_memory_worker"],
            cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def simulate(self, **question: Any) -> dict[str, Any]:
        """Return the answer to one question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            sys.exit(f"the simulation of {question} failed")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def whole(self, model: str, **question: Any) -> dict[str, Any]:
        """Return peak and arithmetic of a model with all its blocks, from two depths."""
        low, high = (self.simulate(model=model, blocks=d, **question) for d in DEPTHS)
        share = (MODELS[model]["num_hidden_layers"] - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])

        def at(a: int, b: int) -> int:
            return round(a + (b - a) * share)

        phases = {k: at(a, high["phases"][k]) for k, a in low["phases"].items()}
        return {"peak": max(phases.values()), "flops": at(low["flops"], high["flops"])}


def headline(simulator: Simulator) -> Iterator[dict[str, Any]]:
    """Simulate QLoRA of Llama-3-8B on 4,096 tokens with all its blocks, and check the short way."""
    blocks = MODELS["Llama-3-8B"]["num_hidden_layers"]
    for activations in ("checkpoint", "offload", "keep", "plain", "plain-keep"):
        rows = [2048, 2048] if activations.startswith("plain") else [4096]
        setup = {"model": "Llama-3-8B", "rows": rows, "bits": 4, "activations": activations}
        answer = simulator.simulate(blocks=blocks, **setup)
        short = simulator.whole(**setup)
        print(f"{activations}: {answer['peak'] / 2**30:.3f} GiB, {short['peak'] - answer['peak']:+d} "
              f"bytes from two depths, {answer['flops'] / 1e12:.1f} TFLOP", flush=True)  # fmt: skip
        yield setup | answer | {"from_two_depths": short["peak"]}


def table(simulator: Simulator, model: str) -> Iterator[dict[str, Any]]:
    """Simulate one model at every length, in 4 and 16 bits, by strop and by the plain stack."""
    for bits in BITS:
        for activations in ACTIVATIONS:
            for tokens in TOKENS:
                setup = {"model": model, "bits": bits, "activations": activations}
                answer = simulator.whole(rows=[tokens], **setup)
                what = f"{model} {bits} bits {activations} {tokens} tokens"
                print(f"{what}: {answer['peak'] / 2**30:.2f} GiB", flush=True)
                yield setup | {"tokens": tokens} | answer


def longest(
    simulator: Simulator, model: str, points: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield how many tokens a row may have on each card, in 4 bits, each looked at by a simulation."""
    for activations in ACTIVATIONS:
        known = {
            p["tokens"]: p["peak"]
            for p in points
            if p["activations"] == activations and p["bits"] == 4
        }
        for card in CARDS:
            room = card * 2**30 - SPARE
            tokens = guess(sorted(known.items()), room)
            while tokens > 0:
                answer = simulator.whole(model, rows=[tokens], bits=4, activations=activations)
                known[tokens] = answer["peak"]
                if answer["peak"] <= room:
                    break
                tokens = min(tokens - STEP, guess(sorted(known.items()), room))
            print(f"{model} {activations} on {card} GiB: {max(tokens, 0)} tokens", flush=True)
            yield {
                "model": model,
                "activations": activations,
                "card": card,
                "tokens": max(tokens, 0),
            }


def guess(known: list[tuple[int, int]], room: float) -> int:
    """Return about how many tokens fit, in whole steps, on straight lines between what is known."""
    (n, low), (m, high) = next(
        (pair for pair in itertools.pairwise(known) if pair[1][1] > room), known[-2:]
    )
    return int((n + (room - low) * (m - n) / (high - low)) // STEP * STEP)


class Results:
    """What was found, written after each step; a step that is simulated again takes its old place."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {"headline": [], "table": [], "longest": []}
        if RESULT.exists():
            known = json.loads(RESULT.read_text())
            self._rows = {name: known[name] for name in self._rows}

    def rows(self, part: str, model: str) -> list[dict[str, Any]]:
        """Return what is known of a model."""
        return [row for row in self._rows[part] if row["model"] == model]

    def add(self, part: str, row: dict[str, Any]) -> None:
        """Take a row in."""
        keys = (
            ("model", "activations", "bits", "tokens")
            if part == "table"
            else ("model", "activations")
        )
        keys += ("card",) if part == "longest" else ()
        others = [r for r in self._rows[part] if any(r[k] != row[k] for k in keys)]
        self._rows[part] = [*others, row]
        write_json(RESULT, self._rows | circumstances())


def main() -> int:
    """Simulate, write after each step, print what matters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--no-headline", action="store_true", help="leave out the whole Llama-3-8B")
    options = parser.parse_args()
    results, simulator = Results(), Simulator()
    if not options.no_headline:
        for row in headline(simulator):
            results.add("headline", row)
    for model in options.models:
        for row in table(simulator, model):
            results.add("table", row)
        for row in longest(simulator, model, results.rows("table", model)):
            results.add("longest", row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
