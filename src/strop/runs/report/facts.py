"""What was asked of a run, what was planned, what came of it, and how to repeat it."""

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from strop.core.progress import duration
from strop.core.system.disk import format_size
from strop.data.left_out import left_out
from strop.data.preview import MEANING
from strop.planning.settings import described
from strop.runs.command import changed, train_command

_STATES = {"finished": "finished", "diverged": "diverged", "running": "running"}
ACTIVATIONS = {
    "keep": "all kept for backward",
    "checkpoint": "computed again in backward",
    "offload": "block inputs in a file",
}

_MACHINE = {"processor": "processor (digest)", "compiled code": "compiled C++"}

Table = list[tuple[str, str]]


def title(record: Mapping[str, Any]) -> str:
    """Return the model's name and the data's."""
    model = str(record["settings"]["model"]).rstrip("/").rpartition("/")[2] or "model"
    source = str(record["data"]["source"]).rstrip("/").rpartition("/")[2]
    return f"{model} on {source}"


def state(record: Mapping[str, Any]) -> str:
    """Return how far a run came, when it started and how long it took."""
    done, planned = record.get("steps_done", 0), record["steps"]
    status = _STATES.get(record["status"], "stopped before its end")
    started = datetime.datetime.fromisoformat(record["started"])
    parts = [
        f"{status} after {done:,} of {planned:,} steps",
        f"started {started:%d %B %Y, %H:%M} UTC",
    ]
    if measured := record.get("measured"):
        parts.append(f"trained for {duration(measured['seconds'])}")
    return " · ".join(parts)


def plan_beside_fact(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, plan and fact of what a run takes."""
    plan, measured = record.get("planned") or {}, record.get("measured") or {}
    peaks = measured.get("peak_memory", {})
    done = record.get("steps_done")
    rows = [("steps", f"{record['steps']:,}", "" if done is None else f"{done:,}")]
    peak = f"{format_size(plan['peak'])}" if plan.get("peak") else "not predicted"
    rows += [
        (f"{kind} memory at its peak", peak if kind == "main" else "", format_size(size))
        for kind, size in peaks.items()
    ]
    if plan:
        kept = ACTIVATIONS.get(plan["activations"], plan["activations"])
        budget = plan["micro_batch_tokens"]
        rows.append(("activations", kept, ""))
        computed = "a whole step" if budget is None else f"{budget:,} tokens"
        rows.append(("computed at once", computed, ""))
    if measured:
        rows += [
            ("time", "not predicted", duration(measured["seconds"])),
            ("tokens trained on", "", f"{measured['tokens']:,}"),
            ("tokens a second", "", f"{measured['tokens_per_second']:,.0f}"),
        ]
    return rows


def data_facts(data: Mapping[str, Any]) -> Table:
    """Return what a run was trained on."""
    share = 100 * data["supervised_tokens"] / max(1, data["tokens"])
    return [
        ("source", data["source"]),
        ("format", data["format"]),
        ("rows trained on", f"{data['rows']:,}"),
        ("rows held out", f"{data['held_out_rows']:,}"),
        ("tokens of an epoch", f"{data['tokens']:,}"),
        ("of these learned", f"{data['supervised_tokens']:,} ({share:.0f} %)"),
        ("longest row", f"{data['longest_row']:,} tokens"),
        ("max_length", f"{data['max_length']:,} tokens"),
        *(("not seen", sentence) for sentence in left_out(data)),
    ]


def settings_tables(settings: Mapping[str, Any]) -> tuple[list[tuple[str, str, str]], Table]:
    """Return the settings that differ from the defaults, with these, and all others."""
    defaults = {name: default for name, (_, default, _) in described().items()}
    of_user = dict(changed(settings))
    as_set = [
        (name, word(value), word(defaults.get(name)))
        for name, value in settings.items()
        if name in of_user or (name in ("data", "model", "out") and value is not None)
    ]
    names = {name for name, *_ in as_set}
    return as_set, [(n, word(value)) for n, value in settings.items() if n not in names]


def word(value: Any) -> str:
    """Return a value as it is written in a file of settings."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if value in ({}, [], ""):
        return "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def command(record: Mapping[str, Any], path: str) -> str:
    """Return the command that trains the same adapter."""
    settings, data = record["settings"], record["settings"]["data"]
    if data is None:
        sources = ["ROWS"]  # rows that Python gave
    else:
        sources = [s if isinstance(s, str) else json.dumps(s) for s in _listed(data)]
    return train_command(settings, sources, str(settings["model"]), f"{path}-again")


def _listed(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


def versions(record: Mapping[str, Any]) -> Table:
    """Return the versions of what a run was computed with."""
    model = record["model"]
    weights = model.get("weights", {})
    size = f"{format_size(weights['bytes'])} in {weights['bits']} bits" if weights else ""
    table = [
        *record["versions"].items(),
        ("commit of strop", word(record.get("commit"))),
        ("model", f"{model['family']}, {model['parameters']:,} parameters"),
        ("weights", size),
        (
            "trained parameters",
            f"{model['trained_parameters']:,}" if "trained_parameters" in model else "",
        ),
        ("products in", f"{model['dtype']} on {model['device']}"),
        *((_MACHINE.get(name, name), word(of)) for name, of in record.get("machine", {}).items()),
        ("seed", word(record["settings"].get("seed"))),
    ]
    return [(name, value) for name, value in table if value]


def digests(record: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> Table:
    """Return the SHA-256 of everything that a run was computed from, and of what it left."""
    base = record.get("base", {}).get("sha256", {})
    table = [
        ("tokens of the data", record["data"]["sha256"]),
        *((f"base model: {name}", digest) for name, digest in base.items()),
        ("4-bit codes of the base", record.get("base", {}).get("codes")),
        ("tokenizer and template", record.get("tokenizer", {}).get("sha256")),
        *((f"adapter: {name}", digest) for name, digest in record.get("adapter", {}).items()),
        ("rows evaluated on", (evaluation or {}).get("rows_sha256")),
    ]
    return [(name, str(digest)) for name, digest in table if digest]


def meanings(samples: Iterable[Iterable[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """Return the kinds of pieces that the samples have, each with its meaning."""
    kinds = {piece["kind"] for row in samples for piece in row}
    return [(kind, meaning) for kind, meaning in MEANING.items() if kind in kinds]
