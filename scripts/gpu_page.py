"""Write the tables of docs/gpu.md, between their markers, from benchmarks/results/gpu."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

from results import rows_of
from wrap import write_page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpu.md"
TRAFFIC = ROOT / "benchmarks" / "results" / "gpu" / "traffic.json"
KERNELS = ROOT / "benchmarks" / "results" / "gpu" / "kernels.json"
CARD = ROOT / "benchmarks" / "results" / "gpu" / "card.json"
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


def operations(lines: list[dict[str, Any]]) -> list[list[str]]:
    """Return milliseconds of each operation, strop's beside eager's and those of torch.compile."""
    rows = [["operation", "strop, ms", "eager", "torch.compile"]]
    for line in lines:
        times = line.get("milliseconds", {})
        cells = [
            f"{times[n]:.3f}" if n in times else "–" for n in ("strop", "eager", "torch.compile")
        ]
        rows.append([line["operation"], *cells])
    return rows


def steps(lines: list[dict[str, Any]]) -> list[list[str]]:
    """Return seconds of each step, the peak that was measured and the one that was expected."""
    rows = [["model, bits, rows", "mode", "seconds a step", "peak, GB", "expected, GB"]]
    for line in lines:
        case = f"{line['model']}, {line['bits']}, {line['workload']}"
        if "seconds" not in line:
            why = "out of memory" if line.get("out_of_memory") else line["left_out"]
            rows.append([case, line["mode"], why, "", ""])
            continue
        peaks = (line.get("peak"), line.get("simulated_peak"))
        cells = [f"{peak / 1e9:.2f}" if peak else "–" for peak in peaks]
        rows.append([case, line["mode"], f"{statistics.median(line['seconds']):.3f}", *cells])
    return rows


def card(file: Path = CARD) -> str:
    """Return what was measured on a card, or that nothing was."""
    if not file.exists():
        return "Nothing was measured on a card yet.\n"
    result = json.loads(file.read_text(encoding="utf-8"))
    device, tested = result["card"], result["tests"]
    failures = tested.get("failures", [])
    what = f"{tested.get('passed', 0)} tests passed, {len(failures)} failed"
    text = [
        f"On {device.get('name', 'a simulated card')}, {device.get('memory_gb', 0)} GB: {what}."
    ]
    text += [f"- {failure['test']}: {failure['why']}" for failure in failures]
    text += [rows_of(operations(result["kernels"].get("lines", [])))]
    text += [rows_of(steps(result["steps"].get("lines", []))), source("card", result).strip()]
    return "\n\n".join(text) + "\n"


def page() -> str:
    """Return the page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("traffic", traffic()), ("kernels", kernels()), ("card", card())):
        block = re.compile(BLOCK.format(name), re.DOTALL)
        start, end = block.findall(text)[0]
        text = block.sub(lambda _, whole=start + table + end: whole, text)
    return text


if __name__ == "__main__":
    write_page(PAGE, page())
