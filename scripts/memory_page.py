"""Write docs/memory.md from the results of simulated steps, so that no number in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "memory.md"
GIB = 2**30
NAMES = {
    "keep": "strop, `keep`",
    "checkpoint": "strop, `checkpoint`",
    "offload": "strop, `offload`",
    "plain": "transformers + PEFT + bitsandbytes, checkpointing",
    "plain-keep": "transformers + PEFT + bitsandbytes, none",
}
HEAD = """# Memory of a training step

How much memory a step needs can be known before it runs, without the weights and without the card.
`strop.planning.simulate` runs the code that trains on tensors that have shapes but no numbers, and
follows every allocation:

```python
from strop.planning import Setup, simulate

tiny = {"model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
(step,) = simulate(Setup(config=tiny, rows=(100, 80), dtype="float32", activations="checkpoint"))
print(step.peak, step.at_peak, step.flops)
```

`config` is what a model's config.json holds, or its folder; `device="cuda"` asks about a card.
On a tiny Llama and a tiny Qwen2 the result is, to the byte, what PyTorch's CPU allocator hands out in
the real step (`tests/planning`). Not seen are what libraries and kernels take for themselves (cuBLAS
and MKL work space, the CUDA context) and what an allocator loses to rounding and fragmentation; on a
CPU, `step.resident` adds what the C library's heap keeps of small blocks.

**Nothing on this page was measured on a GPU.**
`benchmarks/card_memory.py` and `benchmarks/memory.py` make the numbers, `make pages` this page.
"""


def headline(cards: dict[str, Any]) -> str:
    """Return what a step of Llama-3-8B needs, by kind."""
    cells = [["", "tokens", "peak, GiB", "weights", "kept for backward", "TFLOP"]]
    for row in cards["headline"]:
        kinds = row.get("at_peak") or {}
        parts = [f"{kinds[k] / GIB:.2f}" if k in kinds else "" for k in ("weights", "kept")]
        tokens = " × ".join(map(str, (len(row["rows"]), row["rows"][0])))
        peak = f"{row['peak'] / GIB:.2f}"
        seen = not row["activations"].startswith("plain")  # products inside bitsandbytes are not
        flops = f"{row['flops'] / 1e12:.0f}" if seen else ""
        cells.append([NAMES[row["activations"]], tokens, peak, *parts, flops])
    return f"""
## Llama-3-8B in 4 bits

QLoRA, rank 16 on all linear layers, adapter and AdamW in float32, products in bfloat16. The plain stack is
simulated in the same way: its real layers, PEFT's adapters (in bfloat16, as TRL casts them), PyTorch's
flash attention, transformers' loss; the arithmetic inside bitsandbytes is not seen.

{rows_of(cells)}
"""


def table(cards: dict[str, Any]) -> str:
    """Return the peaks of all models, lengths and modes of activations."""
    tokens = sorted({row["tokens"] for row in cards["table"]})
    parts = []
    for bits, kind in ((4, "QLoRA"), (16, "LoRA on weights of 16 bits")):
        cells = [["GiB", "", *(f"{n:,} tokens" for n in tokens)]]
        for model in dict.fromkeys(row["model"] for row in cards["table"]):
            for activations in ("checkpoint", "offload", "plain"):
                setup = {"model": model, "activations": activations, "bits": bits}
                rows = [row for row in cards["table"] if row | setup == row]
                peaks = {row["tokens"]: f"{row['peak'] / GIB:.1f}" for row in rows}
                cells.append([model, NAMES[activations], *(peaks.get(n, "") for n in tokens)])
        parts.append(f"### {kind}\n\n{rows_of(cells)}\n")
    return "\n## Models and lengths\n\nOne row of so many tokens, all learned.\n\n" + "\n".join(
        parts
    )


def longest(cards: dict[str, Any]) -> str:
    """Return the longest rows that fit."""
    sizes = sorted({row["card"] for row in cards["longest"]})
    cells = [["tokens", "", *(f"{size} GiB" for size in sizes)]]
    for model in dict.fromkeys(row["model"] for row in cards["longest"]):
        for activations in ("checkpoint", "offload", "plain"):
            rows = [
                r
                for r in cards["longest"]
                if (r["model"], r["activations"]) == (model, activations)
            ]
            fits = {row["card"]: f"{row['tokens']:,}" if row["tokens"] else "–" for row in rows}
            cells.append([model, NAMES[activations], *(fits.get(size, "") for size in sizes)])
    return f"""
## The longest row that fits

QLoRA, in steps of 512 tokens, 0.75 GiB left for the CUDA context and the libraries.

{rows_of(cells)}
"""


def on_cpu(measured: dict[str, Any]) -> str:
    """Return what was predicted beside what was taken."""
    cells = [["model", "activations", "tokens", "predicted, MB", "taken, MB", "error"]]
    for row in measured["steps"]:
        sizes = [f"{row[name] / 1e6:,.0f}" for name in ("foretold", "increase")]
        first = [row["model"], f"`{row['activations']}`", str(row["tokens"])]
        cells.append([*first, *sizes, f"{row['error']:+.1%}"])
    return f"""
## Predicted and measured, on a CPU

LoRA in float32 on weights held in 16 bits. Taken is what two steps add to the resident memory of a
fresh process at its peak, as Linux counts it, the mapped weights among it. Predicted is `Step.resident`:
what tensors hold, and freed blocks below 1 MB, which glibc does not give back. The libraries' work space
is not predicted.

{rows_of(cells)}
"""


def page() -> str:
    """Return the page as it should be, with a section for each part of the results there are."""
    cards, measured = read("gpu/memory.json"), read("cpu/memory.json")
    sections = {"headline": headline, "table": table, "longest": longest}
    parts = [section(cards) for name, section in sections.items() if cards.get(name)]
    return HEAD + "".join(parts) + (on_cpu(measured) if measured else "")


if __name__ == "__main__":
    write_page(PAGE, page())
