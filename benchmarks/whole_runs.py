r"""Whole runs of a method, with strop's acceleration and the plain TRL way, each in a process of its own.

    python benchmarks/whole_runs.py .cache/data/dpo.json --rows 64 --out results.json
    python benchmarks/whole_runs.py .cache/data/alpaca.json --method distill --rows 64 \
        --setting teacher=smollm2-135m-instruct

Both read the same rows, draw the same batches and log the losses of TRL's trainer; `trl` is `strop train
--accelerate false`, row by row without padding. Seconds and the process's peak memory are of the whole
command, loading included. The ways take turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from strop.core.system import versions


def run_once(data: str, method: str, accelerate: bool, settings: dict[str, object]) -> None:
    """Train once and print losses, seconds and peak memory as JSON."""
    started = time.perf_counter()
    import strop
    from strop.planning.machine import peak_resident

    with tempfile.TemporaryDirectory() as folder:
        run = strop.train(
            data, method=method, out=f"{folder}/run", accelerate=accelerate, quiet=True, **settings
        )
        losses = [line["loss"] for line in run.log if "loss" in line]
        tokens = run.record["measured"]["tokens"]
        training = run.record["measured"]["seconds"]
    peak = peak_resident()
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "training_seconds": training,
                "peak_bytes": peak,
                "tokens": tokens,
                "losses": losses,
            }
        )
    )


def setting(text: str) -> tuple[str, object]:
    """Return name and value of a setting; what is no JSON is a text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    """Measure both ways in turns and print, or write, what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--method", default="dpo")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--setting", action="append", default=[], help="NAME=VALUE of both ways")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=["strop", "trl"])
    given = parser.parse_args()
    settings = {"model": given.model, "bits": 32, "held_out": 0, "epochs": 1, "batch_size": 16}
    settings |= dict(map(setting, given.setting))
    if given.way:
        run_once(given.data, given.method, given.way == "strop", settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = json.loads(Path(given.data).read_text(encoding="utf-8"))[: given.rows]
        part = Path(folder) / "rows.jsonl"
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        measured: dict[str, list[dict[str, object]]] = {"strop": [], "trl": []}
        for _ in range(given.rounds):
            for way, runs in measured.items():
                command = [sys.executable, __file__, str(part), "--method", given.method]
                command += ["--model", given.model, "--way", way]
                command += [word for s in given.setting for word in ("--setting", s)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    parser.exit(1, f"{way} ended with {done.returncode}:\n{done.stderr}\n")
                runs.append(json.loads(done.stdout.splitlines()[-1]))
                print(way, {k: v for k, v in runs[-1].items() if k != "losses"}, flush=True)
    ratio = {
        name: statistics.median(
            a[name] / b[name] for a, b in zip(measured["trl"], measured["strop"], strict=True)
        )
        for name in ("seconds", "training_seconds", "peak_bytes")
    }
    pairs = zip(measured["strop"][0]["losses"], measured["trl"][0]["losses"], strict=True)
    result = {
        "method": given.method,
        "rows": len(rows),
        "settings": settings,
        "times_faster": round(ratio["seconds"], 2),
        "times_faster_training": round(ratio["training_seconds"], 2),
        "share_of_memory": round(1 / ratio["peak_bytes"], 3),
        "largest_difference_of_loss": max(abs(a - b) for a, b in pairs),
        "runs": measured,
        "processor": versions.processor(),
        "versions": versions.installed(),
        "commit": versions.commit(),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
