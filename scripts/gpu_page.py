"""Write the table of docs/gpu.md, between its markers, from benchmarks/results/gpu."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpu.md"
TRAFFIC = ROOT / "benchmarks" / "results" / "gpu" / "traffic.json"
BLOCK = re.compile(r"(<!-- traffic: [^\n]* -->\n).*?(<!-- end of traffic -->)", re.DOTALL)
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
    made = f"torch {versions['torch']}, Triton {versions['triton']}, commit {result['commit']}"
    return f"\nBy `benchmarks/{script}.py`: {made}.\n"


def traffic() -> str:
    """Return what formulas launch and move."""
    result = json.loads(TRAFFIC.read_text(encoding="utf-8"))
    rows = [row(title, result["formulas"][name]) for name, title in TITLES.items()]
    return HEAD + "".join(rows) + source("gpu_traffic", result)


def page() -> str:
    """Return the page as it should be."""
    made, found = BLOCK.subn(lambda m: m[1] + traffic() + m[2], PAGE.read_text(encoding="utf-8"))
    assert found == 1, "docs/gpu.md has lost its markers"
    return made


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
