"""Print the results on file, a table in Markdown for each kind of machine: `table.py [FOLDER]`."""

import json
import sys
from pathlib import Path
from typing import Any

from compare import RESULTS, UNITS, kind

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
HEAD = (
    "| | seconds a step | faster than TRL's best | GB above imports | over the floor "
    "| loss differs by |\n|---|---|---|---|---|---|"
)


def lines(title: str, result: dict[str, Any]) -> list[str]:
    """Return the rows of one workload: every mode beside the fastest of TRL's."""
    fastest = result["modes"][result["trl_fastest"]]
    void = " (void: curves disagree)" if result["void"] else ""
    rounds = f"{result['rounds']} round{'s' if result['rounds'] > 1 else ''}"
    machine = result["machine"]
    where = f"{rounds} at {result['commit'][:7]}, {machine['cpu']}"
    where += ", processor time of one core" if "clock" in result else ""
    return [f"| **{title}** ({where}){void} | | | | | |"] + [
        f"| {mode} | {measured['seconds']:.2f} | {fastest['seconds'] / measured['seconds']:.2f}× "
        f"| {measured['rss'] / 1e9:.2f} | {result['over_floor'][mode]:.2f} "
        f"| {result['largest_difference'][mode]['loss']:.0e} |"
        for mode, measured in result["modes"].items()
    ]


def table(results: list[dict[str, Any]]) -> str:
    """Return the results of one kind of machine."""
    rows = [
        line
        for name, title in TITLES.items()
        for result in results
        if result["name"] == name
        for line in lines(title, result)
    ]
    return "\n".join([HEAD, *rows])


def parts(results: list[dict[str, Any]]) -> str:
    """Return a table for each kind of machine that was measured, the fastest kind first."""
    text = []
    for unit in [*(unit.replace("_", "-") for unit in reversed(UNITS)), ""]:
        if here := [result for result in results if kind(result["machine"]) == unit]:
            units = ", ".join(here[0]["machine"].get("units", ())).upper().replace("_", "-")
            where = (
                f"On a processor with {units}"
                if unit
                else "On processors whose units were not noted"
            )
            text.append(f"{where}:\n\n{table(here)}")
    return "\n\n".join(text)


def main() -> None:
    """Print every comparison of modes that is on file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    files = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(folder.glob("*.json"))]
    print(parts([result for result in files if result.get("name") in TITLES and "modes" in result]))


if __name__ == "__main__":
    main()
