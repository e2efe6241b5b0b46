"""Write docs/certificates.md from results files, so that no number in it is made by hand."""

from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "certificates.md"
HEAD = """# What certificates say of real models

The three packaged models, each trained for 12 steps on instructions, in 16 bits (LoRA) and in 4 (QLoRA),
and exported by [`strop export`](export.md) in the forms below. Each export was opened by its own loader
(PEFT, transformers, llama.cpp, bitsandbytes) and compared with the trained model on rows held out of
training. Short runs are the harder test: their updates are small beside the rounding of the weights.

`make bench-export` and `benchmarks/gguf_dynamic.py` make the numbers below, `make pages` this page.
"""


def run_of(name: str, results: dict[str, Any]) -> str:
    """Return what the certificate says of each export of a run."""
    cells = [["export", "MB", "KL, nats", "same likeliest token", "same answers", "certified"]]
    for export, of in results["exports"].items():
        agreement = of["agreement"]
        cells.append(
            [
                export,
                f"{of['bytes'] / 1e6:,.0f}",
                f"{max(0.0, agreement['kl']):.1e}",
                f"{agreement['top1']:.1%}",
                f"{of['same_answers']} of {of['answers']}",
                "yes" if of["passed"] else f"**no**: {of['faults'][0]}",
            ]
        )
    return f"""
## {name}

Commit {results["commit"][:7]}.

{rows_of(cells)}
"""


def cost(runs: dict[str, Any]) -> str:
    """Return time and memory of the exports that were timed."""
    cells = [["run", "seconds", "with certificates", "peak of writing over the model in 16 bits"]]
    for name, parts in runs.items():
        if timed := parts.get("timed"):
            seconds = [timed["seconds_of_writing"], timed["seconds_with_certificates"]]
            peak = f"{timed['peak_of_writing_over_16_bit']:.2f}"
            cells.append([name, *(f"{value:.0f}" for value in seconds), peak])
    return f"""
## Time and memory

Adapter, merged model, F16 and Q8_0 in one command on a CPU of 2 cores. `import torch` alone takes 0.85
times what a model of 135 million weights does.

{rows_of(cells)}
"""


def dynamic(results: dict[str, Any]) -> str:
    """Return the divergence of formats chosen tensor by tensor, beside plain ones."""
    cells = [["form", "MB", "KL, nats", "same likeliest token"]]
    for way, of in sorted(results["ways"].items(), key=lambda item: item[1]["bytes"]):
        cells.append([way, f"{of['bytes'] / 1e6:.1f}", f"{of['kl']:.4f}", f"{of['top1']:.1%}"])
    return f"""
## Formats chosen tensor by tensor

{results["model"]}, moved off the grid of the file it came from by noise of one step; llama.cpp
beside transformers in float32, on texts that nothing was calibrated on. Commit {results["commit"][:7]}.

{rows_of(cells)}
"""


def page() -> str:
    """Return the page as it should be."""
    runs = read("cpu/export.json")["runs"]
    every = (run_of(name, parts["every"]) for name, parts in runs.items() if "every" in parts)
    return HEAD + "".join(every) + cost(runs) + dynamic(read("cpu/gguf_dynamic.json"))


if __name__ == "__main__":
    write_page(PAGE, page())
