"""Train a short run on real rows, export it in every form, and note what each certificate says.

Run as `python benchmarks/export.py [--models NAME …] [--bits 16 4] [--part timed every]`; adds to
benchmarks/results/cpu/export.json. `timed` writes the forms that the time and the memory are stated
for, `every` all of them. Training, writing alone, and the command with its certificates are processes
of their own; peaks are what the operating system counted. The data folder holds what
`scripts/fetch.py alpaca` brings.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compare import RESULTS, circumstances

from strop.core.files import write_json

MODELS = ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct")
DATA = Path(__file__).parents[1] / ".cache" / "data" / "alpaca.json"
ROWS, HELD_OUT, STEPS = 90, 20, 12
LONGEST = 160
"""Characters of an answer."""
TIMED = ("--to", "adapter,merged,gguf", "--quant", "f16,q8_0")
EVERY = ("--to", "adapter,merged,gguf,ollama,bnb", "--quant")
FORMS = "f16,q8_0,q4_k,dynamic-1.10,adapter"
STROP = str(Path(sys.executable).with_name("strop"))
OPENING = (
    "import sys, strop.exporting.exporter; from strop.training import Run; "
    "Run.open(sys.argv[1]).assets()"
)
"""All that writing needs but the weights: the libraries, and the configuration and tokenizer that
the run keeps."""


def main() -> None:
    """Measure what the command line names; what the results file has of others is kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--bits", nargs="+", type=int, default=[16, 4])
    parser.add_argument("--part", nargs="+", choices=("timed", "every"), default=["timed", "every"])
    parser.add_argument("--forms", default=FORMS, help="of GGUF, in the part `every`")
    parser.add_argument("--runs", type=Path, help="where trained runs are kept and found again")
    parser.add_argument("--out", type=Path, default=RESULTS / "export.json")
    options = parser.parse_args()
    runs = json.loads(options.out.read_text())["runs"] if options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            for bits in options.bits:
                run = trained(model, bits, options.runs or Path(scratch))
                for part in options.part:
                    measure = {
                        "timed": timed,
                        "every": functools.partial(every, forms=options.forms),
                    }[part]
                    of = runs.setdefault(f"{model} {bits} bits", {})
                    measured, now = measure(run, Path(scratch) / part), circumstances()
                    of[part] = {"commit": now["commit"]} | measured
                    shutil.rmtree(Path(scratch) / part)
                    write_json(options.out, {"name": "export", "runs": runs, **now})
                    print(summary(of[part], run.name), flush=True)


def trained(model: str, bits: int, folder: Path) -> Path:
    """Train for a few steps, or find the run again, and return its folder."""
    run = folder / f"{model}-{bits}"
    if not (run / "adapter").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in chats()), encoding="utf-8")
        words = ["--model", model, "--bits", bits, "--max-steps", STEPS, "--held-out", HELD_OUT]
        process([STROP, "train", rows, *words, "--batch-size", 8, "--out", run, "--json"])
    return run


def chats() -> list[dict[str, Any]]:
    """Return instructions with short answers."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))
    short = [r for r in rows if len(r["output"]) < LONGEST and not r["input"]][:ROWS]
    return [
        {
            "messages": [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": row["output"]},
            ]
        }
        for row in short
    ]


def timed(run: Path, out: Path) -> dict[str, Any]:
    """Return what writing takes, what the command takes, and what each certificate says."""
    words = [STROP, "export", run, *TIMED, "--json", "--out", out]
    _, _, opening = process([sys.executable, "-c", OPENING, run])
    _, writing, peak = process([*words, "--no-certify"])
    shutil.rmtree(out)
    printed, seconds, whole_peak = process(words)
    sixteen = 2 * parameters(out / "merged")
    return {
        "bytes_in_16_bit": sixteen,
        "seconds_of_writing": writing,
        "peak_bytes_of_writing": peak,
        "peak_of_writing_over_16_bit": round(peak / sixteen, 3),
        "peak_bytes_before_weights": opening,
        "peak_of_weights_over_16_bit": round((peak - opening) / sixteen, 3),
        "seconds_with_certificates": seconds,
        "peak_bytes_with_certificates": whole_peak,
        "exports": certificates(printed),
    }


def every(run: Path, out: Path, forms: str) -> dict[str, Any]:
    """Return what each certificate of every target says."""
    words = [STROP, "export", run, *EVERY, forms, "--json", "--out", out]
    printed, seconds, peak = process(words)
    return {
        "seconds_with_certificates": seconds,
        "peak_bytes_with_certificates": peak,
        "exports": certificates(printed),
    }


def certificates(printed: str) -> dict[str, Any]:
    """Return what is kept of what the command printed, by the name of each export."""
    return {Path(export["path"]).name: of(export) for export in json.loads(printed)["exports"]}


def summary(measured: dict[str, Any], run: str) -> str:
    """Return a line on what failed or what passed."""
    passed = {name: of["passed"] for name, of in measured["exports"].items()}
    failed = [name for name, well in passed.items() if not well]
    verdict = f"failed: {', '.join(failed)}" if failed else f"{len(passed)} certified"
    return f"{run}: {verdict}, {measured['seconds_with_certificates']} s"


def of(export: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of one export."""
    certificate = export["certificate"]
    fields = (
        *("passed", "agreement", "answers", "same_answers", "answer_tokens", "departures"),
        *("base", "bases", "faults"),
    )
    return {"bytes": export["bytes"], **{key: certificate[key] for key in fields}}


def parameters(folder: Path) -> int:
    """Return how many numbers the weights in a folder are."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        header.pop("__metadata__", None)
        for tensor in header.values():
            start, end = tensor["data_offsets"]
            count += (end - start) // {"F32": 4, "F16": 2, "BF16": 2}[tensor["dtype"]]
    return count


def process(words: list[Any]) -> tuple[str, float, int]:
    """Run a command; return what it printed, its seconds, and the largest peak of its processes."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        started = subprocess.Popen([str(word) for word in words], stdout=out)
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if started.returncode not in (0, 1) or not (text or "-c" in words):
        sys.exit(f"{' '.join(map(str, words))} failed")
    return text, round(time.perf_counter() - start, 1), usage.ru_maxrss * 1024


if __name__ == "__main__":
    main()
