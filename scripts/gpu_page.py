"""Write the tables of docs/gpu.md, between their markers, from benchmarks/results/gpu."""

import json
import re
from pathlib import Path
from typing import Any

from wrap import write_page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpu.md"
TRAFFIC = ROOT / "benchmarks" / "results" / "gpu" / "traffic.json"
KERNELS = ROOT / "benchmarks" / "results" / "gpu" / "kernels.json"
BLOCK = r"(<!-- {0}: [^\n]* -->\n).*?(<!-- end of {0} -->)"
TITLES = {
    "rms_norm": "RMS norm, 4,096 × 4,096",
    "rope": "rotary embedding, 40 heads of 128",
    "glu": "SwiGLU, 14,336 features",
    "block": "a whole block, LoRA of rank 16 on all linear layers",
}
MODES = ("ours", "eager", "compiled")
HEAD = """| | strop: GB | kernels | eager: GB | kernels | torch.compile: GB | kernels |
|---|---|---|---|---|---|---|
"""


def row(title: str, modes: dict[str, dict[str, Any]]) -> str:
    """Return one line of the table."""
    cells = [f"{modes[m]['bytes'] / 1e9:.2f} | {modes[m]['kernels']}" for m in MODES]
    return f"| {title} | " + " | ".join(cells) + " |\n"


def source(script: str, result: dict[str, Any]) -> str:
    """Return what made a table."""
    versions = result["versions"]
    circumstances = (
        f"torch {versions['torch']}, Triton {versions['triton']}, commit {result['commit']}"
    )
    return f"\nBy `benchmarks/{script}.py`: {circumstances}.\n"


def traffic() -> str:
    """Return what formulas launch and move."""
    result = json.loads(TRAFFIC.read_text(encoding="utf-8"))
    rows = [row(title, result["formulas"][name]) for name, title in TITLES.items()]
    return HEAD + "".join(rows) + source("gpu_traffic", result)


def kernels() -> str:
    """Return what kernels need of cards."""
    result = json.loads(KERNELS.read_text(encoding="utf-8"))
    cards = list(next(iter(result["kernels"].values())))
    lines = [f"| registers of a thread | {' | '.join(cards)} |", "|---" * (len(cards) + 1) + "|"]
    for name, needs in sorted(result["kernels"].items()):
        each = (
            f"{need['registers']}" + (" spills" if need["spilled"] else "")
            for need in needs.values()
        )
        lines.append(f"| `{name}` | {' | '.join(each)} |")
    return "\n".join(lines) + "\n" + source("gpu_kernels", result)


def page() -> str:
    """Return the page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("traffic", traffic()), ("kernels", kernels())):
        block = re.compile(BLOCK.format(name), re.DOTALL)
        start, end = block.findall(text)[0]
        text = block.sub(lambda _, whole=start + table + end: whole, text)
    return text


if __name__ == "__main__":
    write_page(PAGE, page())
