"""The verdicts of all trials as one results file."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "cpu" / "trials.json"


def read_log(path: Path) -> dict[str, dict[str, Any]]:
    """Return the newest line of each trial."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def write(logs: list[Path], seed: int, planned: dict[str, int]) -> dict[str, Any]:
    """Write the results file from logs, and return its content.

    Parts of which no log has a trial stay as the file has them.

    Args:
        logs: later ones decide where a trial is in several.
        seed: of all trials.
        planned: the number of trials that each part has.
    """
    from strop.core.system.versions import commit, installed, processor

    verdicts: dict[str, dict[str, Any]] = {}
    for log in logs:
        verdicts |= read_log(log)
    parts: dict[str, dict[str, Any]] = {}
    run = {name.split("/")[0] for name in verdicts}
    for name, verdict in verdicts.items():
        part = parts.setdefault(name.split("/")[0], {"trials": 0, "passed": 0, "seconds": 0.0})
        part["trials"] += 1
        part["passed"] += verdict["verdict"] == "passed"
        part["seconds"] = max(part["seconds"], verdict["seconds"])
    failed = [v for v in verdicts.values() if v["verdict"] != "passed"]
    commits = {v["commit"] for v in verdicts.values()}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text(encoding="utf-8"))
        parts = {**before["parts"], **parts}
        commits |= set(before["commits"])
        failed += [v for v in before["failed"] if v["name"].split("/")[0] not in run]
    results = {
        "commit": commit(),
        "commits": sorted(commits),
        "seed": seed,
        "versions": installed(),
        "processor": processor_name(processor()),
        "parts": {name: part | {"planned": planned[name]} for name, part in parts.items()},
        "failed": [
            {key: v[key] for key in ("name", "kind", "why")}
            for v in sorted(failed, key=lambda v: v["name"])
        ],
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return results


def processor_name(description: str) -> str:
    """Return the line of a processor's description that names it."""
    lines = description.splitlines()
    named = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name") and ":" in x]
    return named[0] if named else lines[0]
