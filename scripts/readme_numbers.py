"""Write the measured numbers: five rows into README.md and its twin, all into docs/benchmarks.md.

Every number there comes from benchmarks/results; without results the block says that there are none.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import BLOCK, rows_of
from wrap import write_page

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CHINESE = ROOT / "README.zh.md"
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results" / "cpu"
NONE = (
    "No results have been recorded yet; `make bench-sft numbers` measures on your machine and "
    "writes them here."
)


ROWS = {
    "sft": ("LoRA, chats of very different lengths", "LoRA，长短不一的对话"),
    "qlora": ("QLoRA, the same chats in 4 bits", "QLoRA，同样的对话，4 位权重"),
    "dpo": ("DPO, prompt 512, answers 256", "DPO，提示 512，回答 256 个词元"),
    "grpo": ("GRPO, prompt 1,024, 8 answers of 128", "GRPO，提示 1,024，8 个 128 词元的回答"),
    "row-8192": ("one row of 8,192 tokens, recomputed", "一行 8,192 个词元，重计算"),
}
"""Workloads that README shows, by their results file, in English and in Chinese."""
HEADS = (
    ("", "TRL at its best", "strop", "times as fast", "GB, TRL's leanest", "GB, strop's"),
    ("", "TRL 最佳设置", "strop", "快多少倍", "GB，TRL 最省", "GB，strop 最省"),
)
HEAD = """# Measured trainings

strop beside transformers, PEFT and TRL at their defaults and at their best settings for the machine, on the
same model (smollm2-135m-instruct), rows, order, seed and batch; where the curves of losses disagree a
comparison is void. `make bench` measures, `make numbers` writes this page. What a name means is in
`benchmarks/modes.py`.

"""


def main() -> int:
    """Rewrite the blocks; exit code 1 if one has lost its markers."""
    results = recorded()
    for file, language in ((README, 0), (CHINESE, 1)):
        text = file.read_text(encoding="utf-8")
        updated, blocks = BLOCK.subn(lambda m: f"{m[1]}{short(results, language)}\n{m[2]}", text)  # noqa: B023
        if blocks != 1:
            print(f"{file.name} has {blocks} blocks between number markers, expected one")
            return 1
        write_page(file, updated)
    write_page(PAGE, page())
    return 0


def recorded() -> list[dict[str, Any]]:
    """Return the comparisons on file."""
    files = sorted(RESULTS.glob("*.json"))
    measured = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [result for result in measured if "workload" in result]  # what the table shows


def short(results: list[dict[str, Any]], language: int) -> str:
    """Return the five rows of README, in English (0) or Chinese (1)."""
    if not results:
        return NONE
    cells = [list(HEADS[language])]
    for name, titles in ROWS.items():
        result = max((r for r in results if r["name"] == name), key=lambda r: str(r["date"]))
        modes = result["modes"]
        ours = [modes[mode] for mode in modes if mode.startswith("strop")]
        theirs = [modes[mode] for mode in modes if mode.startswith("trl")]
        best, fastest = (min(of, key=lambda m: m["seconds"])["seconds"] for of in (theirs, ours))
        lean, leanest = (min(m["rss"] for m in of) / 1e9 for of in (theirs, ours))
        times = [f"{best:.1f} s", f"{fastest:.1f} s", f"**{best / fastest:.1f}**"]
        cells.append([titles[language], *times, f"{lean:.2f}", f"{leanest:.2f}"])
    return rows_of(cells)


def page() -> str:
    """Return the page of all numbers."""
    results = recorded()
    if not results:
        return HEAD + NONE + "\n"
    whole = [r for r in results if "clock" not in r]  # the table says which are of one core
    newest = max(whole or results, key=lambda r: str(r["date"]))
    sentences = [*headline(results), circumstances(newest), *unsloth(results), *sixteen_bits()]
    parts = [*sentences, table()]
    return HEAD + "\n\n".join(parts) + "\n"


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


def sixteen_bits() -> list[str]:
    """Return how far the losses of 50 steps in bfloat16 lie above those in float32, if measured."""
    file = RESULTS / "losses.json"
    if not file.is_file():
        return []
    result = json.loads(file.read_text(encoding="utf-8"))
    ours, theirs = (
        f"{mode['mean']:.4f} (95 % interval {mode['low']:.4f} to {mode['high']:.4f})"
        for mode in (result["modes"][m] for m in ("strop-bfloat16", "trl-rows-bfloat16"))
    )
    return [
        f"In bfloat16 the losses of 50 steps lie above those in float32 by {ours} with strop and by "
        f"{theirs} with TRL ({result['commit'][:7]})."
    ]


def table() -> str:
    """Return the table of everything on file, as benchmarks/table.py prints it."""
    command = [sys.executable, str(ROOT / "benchmarks" / "table.py"), str(RESULTS)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
