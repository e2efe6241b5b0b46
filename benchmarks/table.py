"""Print the results on file as one table, in Markdown: `python benchmarks/table.py [FOLDER]`."""

import json
import sys
from pathlib import Path
from typing import Any

from compare import RESULTS

TITLES = {
    "sft": "SFT, chats of very different lengths",
    "bfloat16": "the same chats in bfloat16, each over the floor in its format",
    "sixteen_bits": "the same chats, every weight in bfloat16, held so by strop",
    "qlora": "the same chats on a checkpoint that bitsandbytes saved (NF4)",
    "instructions": "the same chats with 300 tokens of instructions in every row",
    "equal": "8 rows of equal length, every token supervised",
    "dpo": "DPO, prompt 512, answers 256",
    "grpo": "GRPO loss step, prompt 1,024, 8 answers of 128",
    "row-2048": "one row of 2,048 tokens, blocks recomputed",
    "row-4096": "one row of 4,096 tokens, blocks recomputed",
    "row-8192": "one row of 8,192 tokens, blocks recomputed",
}


def lines(title: str, result: dict[str, Any]) -> list[str]:
    """Return the rows of one workload: every mode beside the fastest of TRL's."""
    fastest = result["modes"][result["trl_fastest"]]
    void = " (void: curves disagree)" if result["void"] else ""
    rounds = f"{result['rounds']} round{'s' if result['rounds'] > 1 else ''}"
    machine = result["machine"]
    units = ", ".join(unit.upper().replace("_", "-") for unit in machine.get("units", ()))
    where = f"{rounds} at {result['commit'][:7]}, {machine['cpu']}" + (
        f", {units}" if units else ""
    )
    where += ", processor time of one core" if "clock" in result else ""
    return [f"| **{title}** ({where}){void} | | | | | |"] + [
        f"| {mode} | {measured['seconds']:.2f} | {fastest['seconds'] / measured['seconds']:.2f}× "
        f"| {measured['rss'] / 1e9:.2f} | {result['over_floor'][mode]:.2f} "
        f"| {result['largest_difference'][mode]['loss']:.0e} |"
        for mode, measured in result["modes"].items()
    ]


def main() -> None:
    """Print every result that is on file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    print(
        "| | seconds a step | faster than TRL's best | GB above imports | over the floor "
        "| loss differs by |\n|---|---|---|---|---|---|"
    )
    for name, title in TITLES.items():
        path = folder / f"{name}.json"
        if path.exists():
            print("\n".join(lines(title, json.loads(path.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
