"""How long `strop data check` takes for 100,000 chats, and how much memory.

Run as `python benchmarks/data_check.py`; the chats are drawn with a fixed seed from sentences that
people wrote (`scripts/fetch.py alpaca c4 wiki`), so that they are as different as real ones.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import circumstances, save

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".cache" / "data"


def sentences(folder: Path) -> list[str]:
    """Return the sentences of the texts and answers in `folder`."""
    texts = [row["output"] for row in json.loads((folder / "alpaca.json").read_text("utf-8"))]
    lines = (folder / "c4.jsonl").read_text("utf-8").splitlines()
    texts += [json.loads(line)["text"] for line in lines]
    texts += (folder / "wiki.txt").read_text("utf-8").splitlines()
    parts = (part.strip() for text in texts for part in re.split(r"(?<=[.!?])\s+", text))
    return [part for part in dict.fromkeys(parts) if 20 <= len(part) <= 400]


def chats(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield chats of a system message, one or two questions and answers of one to six sentences."""
    pool, chance = sentences(DATA), random.Random(seed)
    for _ in range(count):
        messages = [{"role": "system", "content": chance.choice(pool)}]
        for _ in range(chance.choice((1, 1, 1, 2))):
            messages.append({"role": "user", "content": chance.choice(pool)})
            answer = " ".join(chance.choices(pool, k=chance.randint(1, 6)))
            messages.append({"role": "assistant", "content": answer})
        yield {"messages": messages}


def main() -> int:
    """Measure one check in a process of its own and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cpu")
    options = parser.parse_args()
    around = circumstances()
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as folder:
        path = Path(folder) / "chats.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in chats(options.rows, options.seed):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        size = path.stat().st_size
        command = [str(Path(sys.executable).parent / "strop"), "data", "check", str(path)]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "--model", options.model, "--json"], capture_output=True, text=True
        )
        seconds = time.perf_counter() - begin
    if done.returncode not in (0, 1):
        print(done.stderr, file=sys.stderr)
        return 1
    report = json.loads(done.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    result = {
        "name": "data_check",
        **around,
        "rows": report["rows"],
        "bytes": size,
        "tokens": report["lengths"]["tokens"],
        "seconds": round(seconds, 1),
        "peak_bytes": peak,
        "findings": {f["kind"]: len(f["rows"]) for f in report["findings"]},
    }
    print(
        f"{result['rows']:,} rows ({result['tokens']:,} tokens) in {seconds:.1f} s, "
        f"{peak / 1e6:,.0f} MB at most"
    )
    print(save(result, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
