"""Write docs/four_bits.md from results files, so that no number in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "four_bits.md"
HEAD = """# Weights in 4 bits

QLoRA trains an adapter over weights that are stored in about 4 bits each. What rounding loses decides
whether the result is as good as with 16 bits; strop measures it, and offers three ways:

- **`strop train --bits 4`, the default.** Every linear layer takes 4 bits, fitted to a packaged text: what
  rounding does wrong in one column, the columns after it make good for, as far as the layer's inputs
  let them (GPTQ). Done once for a model, kept in the cache.
- **`strop quantize MODEL --budget 1.10 --out DIR`**, then `strop train --model DIR`. Layers get 4 to 8
  bits, more where the divergence gains most, in so many times the bytes of plain NF4; `--calibrate DATA`
  fits them to your own text. Takes some minutes.
- **`--adapter-rank 16` with it**, then `strop train --lora-init quantization_error`. Also writes an adapter
  that makes good for a part of what is left; training starts from it.

`strop quantize` writes `quantization.json` and a picture into the folder: what each group of layers was
given and why, and the divergence, agreement and perplexity on text kept aside, beside plain NF4.
Checkpoints that bitsandbytes saved open as they are, without bitsandbytes, with bit-equal weights.

`make bench-quantization`, `make bench-qlora` and `benchmarks/qlora_accuracy.py` make the numbers below,
`make pages` this page. The packaged models come from 4-bit files, so each is first moved off its
grid by noise of one step, and the result is the original that all are compared with.
"""


def divergence(results: dict[str, Any]) -> str:
    """Return the divergence from the original of each way to store a model."""
    cells = [
        [
            "",
            "bytes over NF4's",
            "NF4",
            "NF4 and 16-bit layers",
            "strop",
            "strop over NF4",
            "commit",
        ]
    ]
    for model, of in results["models"].items():
        for budget, way in sorted(of["ways"].items()):
            kl = {name: measured["kl"] for name, measured in way["measured"].items()}
            whole = f"{kl['nf4_and_16_bit']:.3f}" if "nf4_and_16_bit" in kl else ""
            ratio = of["ratios"][f"strop_at_{budget}_over_nf4"]
            bytes_over = f"{way['bytes_over_nf4']:.3f}"
            nf4, ours = f"{kl['nf4']:.3f}", f"{kl['strop']:.3f}"
            cells.append([model, bytes_over, nf4, whole, ours, f"{ratio:.2f}", way["commit"][:7]])
    return f"""
## Divergence from the original

KL divergence of the next token in nats, on texts that nothing was calibrated on. NF4 as bitsandbytes
stores it, blocks of 64 with double quantisation. "NF4 and 16-bit layers" leaves whole layers in 16 bits,
chosen by the same sensitivities, within the same bytes.

{rows_of(cells)}
"""


def accuracy(results: dict[str, Any]) -> str:
    """Return how far the loss after training is from that on 16-bit weights."""
    cells = [["task", "weights", "loss before", "loss after", "from 16 bits", "95 % interval"]]
    for task, bases in results["losses"].items():
        for base, runs in bases.items():
            losses = [
                f"{sum(run[when] for run in runs.values()) / len(runs):.3f}"
                for when in ("before", "after")
            ]
            gap, far = results["gaps"].get(task, {}).get(base), ["", ""]
            if gap:
                interval = " to ".join(f"{end:+.2%}" for end in gap["interval"] or ())
                far = [f"{gap['mean']:+.2%}", interval or "one seed"]
            cells.append([task, base, *losses, *far])
    seeds = max(len(runs) for bases in results["losses"].values() for runs in bases.values())
    return f"""
## After training

{results["model"]}: loss on rows held out, before and after the same LoRA training, means of {seeds} seeds.
The gap is that of each seed's loss to the 16-bit run with the same seed. `dynamic` stands with its budget,
`corrected` for an adapter that starts at the correction; what only one seed was trained on says so. The
distance that is there before training stays about as large after it: a model so small needs 1.50 times
NF4's bytes until it is within half a percent. The tasks' rows, the settings and the commit of each run
are in the results file; `nf4`, but its first seeds, and `corrected` were trained at an older commit and
on another machine than the rest.

{rows_of(cells)}
"""


def step(results: dict[str, Any]) -> str:
    """Return time and memory of QLoRA steps beside TRL's."""
    fastest = results["modes"][results["trl_fastest"]]["seconds"]
    leanest = results["modes"][results["trl_leanest"]]["rss"]
    cells = [
        ["", "seconds a step", "faster than TRL's best", "GB above imports", "of TRL's leanest"]
    ]
    for mode, of in results["modes"].items():
        faster, share = fastest / of["seconds"], of["rss"] / leanest
        memory = f"{of['rss'] / 1e9:.2f}"
        cells.append([mode, f"{of['seconds']:.2f}", f"{faster:.2f}×", memory, f"{share:.0%}"])
    return f"""
## Time and memory of a step

The same chats on the same NF4 checkpoint, on a CPU of 2 cores; TRL computes with bitsandbytes.

{rows_of(cells)}
"""


def page() -> str:
    """Return the page as it should be, with a section for each results file there is."""
    sections = {"quantization": divergence, "qlora_accuracy": accuracy, "qlora": step}
    results = {name: read(f"cpu/{name}.json") for name in sections}
    return HEAD + "".join(of(results[name]) for name, of in sections.items() if results[name])


if __name__ == "__main__":
    write_page(PAGE, page())
