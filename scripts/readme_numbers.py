"""Write the measured numbers into README.md, between its markers, from benchmarks/results.

Every number there comes from here; without results the block says that there are none.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from wrap import write_page

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "cpu"
BLOCK = re.compile(r"(<!-- numbers: [^\n]* -->\n).*?(<!-- end of numbers -->)", re.DOTALL)
NONE = (
    "No results have been recorded yet; `make bench-sft numbers` measures on your machine and "
    "writes them here."
)


def main() -> int:
    """Rewrite the block; exit code 1 if the README has lost its markers."""
    text = README.read_text(encoding="utf-8")
    files = sorted(RESULTS.glob("*.json"))
    measured = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    results = [result for result in measured if "workload" in result]  # what the table shows
    updated, blocks = BLOCK.subn(lambda m: f"{m[1]}{block(results)}\n{m[2]}", text)
    if blocks != 1:
        print(f"{README.name} has {blocks} blocks between number markers, expected one")
        return 1
    write_page(README, updated)
    return 0


def block(results: list[dict[str, Any]]) -> str:
    """Return what stands between the markers."""
    if not results:
        return NONE
    whole = [r for r in results if "clock" not in r]  # the table says which are of one core
    newest = max(whole or results, key=lambda r: str(r["date"]))
    return "\n\n".join([*headline(results), circumstances(newest), *unsloth(results), table()])


def headline(results: list[dict[str, Any]]) -> list[str]:
    """Return one sentence about the comparison on chats, where it was made."""
    comparisons = [r for r in results if r.get("name") == "sft"]
    if not comparisons:
        return []
    sft = max(comparisons, key=lambda r: str(r["date"]))
    return [
        f"Fine-tuning by LoRA on chats of very different lengths, strop is "
        f"{sft['faster_than_trl_best']:.1f} times as fast as TRL at its best setting for the "
        f"machine and {sft['faster_than_trl_default']:.1f} times as fast as TRL at its defaults; "
        f"its lean setting takes {sft['lean_memory_of_trl_leanest']:.0%} of the memory of TRL's "
        f"leanest. The losses of all steps agree to {sft['largest_loss_difference']:.0e}."
    ]


def circumstances(result: dict[str, Any]) -> str:
    """Return with what and how it was measured; the table says on which processor."""
    machine, versions = result["machine"], result["versions"]
    others = f"transformers {versions['transformers']}, trl {versions['trl']}"
    return (
        f"{machine['cores']} cores, {machine['memory_gb']} GB; torch "
        f"{versions['torch']}, {others}, {result['date']}. Each measurement in a fresh process, "
        "the modes in turn, medians of the rounds; memory is peak RSS above bare imports; the "
        "floor is the time of the matrix products alone."
    )


def unsloth(results: list[dict[str, Any]]) -> list[str]:
    """Return how strop compares with Unsloth's CPU backend, a sentence for each result that has it."""
    sentences = []
    for result in results:
        if "unsloth_fastest" not in result:
            continue
        modes, versions = result["modes"], result["unsloth"]
        ours = [mode for mode in modes if mode.startswith("strop")]
        fastest, leanest = (min(ours, key=lambda m: modes[m][by]) for by in ("seconds", "rss"))
        ratio = modes[result["unsloth_fastest"]]["seconds"] / modes[fastest]["seconds"]
        share = modes[leanest]["rss"] / modes[result["unsloth_leanest"]]["rss"]
        sentences.append(
            f"Beside Unsloth's CPU backend ({versions['unsloth']}, trl {versions['trl']}; "
            f"`{result['name']}`) `{fastest}` is {ratio:.1f} times as fast as "
            f"`{result['unsloth_fastest']}`, and `{leanest}` takes {share:.0%} of the memory of "
            f"`{result['unsloth_leanest']}`."
        )
    return sentences


def table() -> str:
    """Return the table of everything on file, as benchmarks/table.py prints it."""
    command = [sys.executable, str(ROOT / "benchmarks" / "table.py"), str(RESULTS)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
