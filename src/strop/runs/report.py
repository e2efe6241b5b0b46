"""report.html: a run as one self-contained page."""

import datetime
import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

from strop.core.files import written_whole
from strop.core.progress import duration
from strop.core.system.disk import format_size
from strop.data.preview import STYLE, Piece, as_html, legend
from strop.runs import model_card
from strop.runs.left_out import left_out
from strop.runs.loss_curve import curve
from strop.runs.run import Run


def write(run: Run) -> None:
    """Write `run.report` from the files of the run folder, and the card of its adapter."""
    record = run.record
    title = f"{_name(record)} on {record['data']['source']}"
    body = "".join(
        [
            _headline(record, title),
            _losses(run.log, best_sentence(run)),
            _before_after(run.evaluation),
            _cost(record),
            _exports(record.get("exports", {})),
            _data(record["data"]),
            _samples(record.get("samples", [])),
            _settings(record),
        ]
    )
    page = _PAGE.format(title=html.escape(title), style=_STYLE, body=body)
    with written_whole(run.report) as scratch:
        scratch.write_text(page, encoding="utf-8")
    if run.adapter_folder.is_dir():
        model_card.write(run, run.adapter_folder)


def _headline(record: Mapping[str, Any], title: str) -> str:
    done, planned = record.get("steps_done", 0), record["steps"]
    states = {"finished": "finished", "diverged": "diverged"}
    state = states.get(record["status"], "stopped before its end")
    started = datetime.datetime.fromisoformat(record["started"])
    line = f"{state} after {done:,} of {planned:,} steps, started {started:%d %B %Y, %H:%M} UTC"
    return f"<h1>{html.escape(title)}</h1><p class='quiet'>{html.escape(line)}</p>"


def best_sentence(run: Run) -> str:
    """Return a sentence about the step whose adapter a run keeps, if that of the lowest loss."""
    best = run.record.get("best")
    if best is None:
        return ""
    sentence = (
        f"The adapter is that of step {best['step']:,}, whose loss on the held-out rows, "
        f"{best['held_out_loss']:.3f}, is the lowest."
    )
    first = next((x["held_out_loss"] for x in run.log if "held_out_loss" in x), None)
    if first is not None and first < best["held_out_loss"]:
        sentence += f" Before training it was lower: {first:.3f}."
    return sentence


def _losses(log: Iterable[Mapping[str, Any]], best: str) -> str:
    lines = list(log)
    trained = [(x["step"], x["loss"]) for x in lines if "loss" in x]
    held_out = [(x["step"], x["held_out_loss"]) for x in lines if "held_out_loss" in x]
    if not trained:
        return ""
    legend = (
        "<span class='train pale'>━ training rows, each step</span> "
        "<span class='train'>━ training rows, mean of the last steps</span>"
    )
    sentence = (
        f"Loss on the training rows: {trained[0][1]:.3f} at first, {trained[-1][1]:.3f} last."
    )
    if held_out:
        legend += " <span class='held'>● held-out rows</span>"
        sentence += (
            f" On rows the model never saw: {held_out[0][1]:.3f} at first, "
            f"{held_out[-1][1]:.3f} last."
        )
    sentence = f"{sentence} {best}".strip()
    picture = f"<p class='legend'>{legend}</p>{curve(trained, held_out)}"
    return _section("Loss by step", f"<p>{sentence}</p>{picture}")


def _before_after(evaluation: Mapping[str, Any] | None) -> str:
    """Return a table of the measures before and after training, with 95 % intervals."""
    if not evaluation:
        return ""
    base, tuned = evaluation["base"], evaluation["tuned"]
    rows = [
        [name, *(_estimate(measures[name], share) for measures in (change, base, tuned))]
        for name, share in (("accuracy", True), ("loss", False), ("perplexity", False))
        if name in (change := evaluation["difference"])
    ]
    note = f"{tuned['rows']:,} rows of {evaluation['data']}, with 95 % intervals"
    table = _table(rows, ["", "difference", "before", "after"])
    content = f"<p class='quiet'>{html.escape(note)}</p>{table}"
    return _section("Before and after", content)


def _estimate(measure: Mapping[str, Any], share: bool) -> str:
    values = (measure["value"], measure["low"], measure["high"])
    texts = (f"{100 * v:.1f} %" if share else f"{v:,.3f}" for v in values if v is not None)
    value, *ends = texts
    return f"{value} ({' to '.join(ends)})" if ends else value


def _cost(record: Mapping[str, Any]) -> str:
    measured = record.get("measured")
    if not measured:
        return ""
    rows = [
        ["time", duration(measured["seconds"])],
        ["tokens trained on", f"{measured['tokens']:,}"],
        ["tokens a second", f"{measured['tokens_per_second']:,.0f}"],
        *([f"peak {kind} memory", format_size(n)] for kind, n in measured["peak_memory"].items()),
    ]
    plan = record.get("planned") or {}  # none the plain TRL way
    if plan.get("peak"):
        rows.append(["main memory as planned", format_size(plan["peak"])])
    return _section("Cost", _table(rows))


def _data(data: Mapping[str, Any]) -> str:
    rows = [
        ["source", data["source"]],
        ["format", data["format"]],
        ["rows trained on", f"{data['rows']:,}"],
        ["rows held out", f"{data['held_out_rows']:,}"],
        ["tokens", f"{data['tokens']:,}"],
        ["of these learned", f"{data['supervised_tokens']:,}"],
        ["longest row", f"{data['longest_row']:,} tokens"],
        ["max_length", f"{data['max_length']:,} tokens"],
        *(["not seen", sentence] for sentence in left_out(data)),
        ["SHA-256 of the tokens", data["sha256"]],
    ]
    return _section("Data", _table(rows))


def _exports(exports: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line about each export: its folder and the sentence of its certificate."""
    rows = [
        [folder, "certified" if certificate["passed"] else "FAILED", certificate["sentence"]]
        for folder, certificate in exports.items()
    ]
    return _section("Exports", _table(rows)) if rows else ""


def _samples(samples: Iterable[Iterable[Mapping[str, Any]]]) -> str:
    blocks = [as_html(Piece(**piece) for piece in row) for row in samples]
    if not blocks:
        return ""
    return _section(
        "First training rows, as the model sees them", STYLE + legend() + "".join(blocks)
    )


def _settings(record: Mapping[str, Any]) -> str:
    versions = {**record["versions"], "commit of strop": record.get("commit")}
    weights = record["model"].get("weights", {})
    model = {
        **record["model"],
        "weights": f"{format_size(weights['bytes'])} in {weights['bits']} bits",
    }
    return "".join(
        _section(title, _table([name, _word(value)] for name, value in facts.items()))
        for title, facts in (
            ("Settings", record["settings"]),
            ("Model", model if weights else record["model"]),
            ("Versions", versions),
        )
    )


def _word(value: Any) -> str:
    """Return a value as it is written in a file of settings."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if value in ({}, [], ""):
        return "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _name(record: Mapping[str, Any]) -> str:
    return str(record["settings"]["model"]).rstrip("/").rpartition("/")[2] or "model"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(rows: Iterable[Iterable[Any]], head: Iterable[str] = ()) -> str:
    def line(cells: Iterable[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    top = line(head, "th") if head else ""
    kind = "columns" if head else "facts"
    body = "".join(line(row, "td") for row in rows)
    return f"<div class='wide'><table class='{kind}'>{top}{body}</table></div>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{style}</style></head><body><main>{body}</main></body></html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --quiet: #667085; --line: #d9dee7;
  --page: #f6f7f9; --card: #fff; --train: #2f6fde; --held: #d9622b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --quiet: #98a2b3; --line: #333b48;
  --page: #14181f; --card: #1c222c; --train: #7aa7ff; --held: #ff9b66; } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.25rem; margin: 1rem 0; }
.quiet { color: var(--quiet); margin: .2rem 0; }
.train { color: var(--train); } .held { color: var(--held); } .pale { opacity: .45; }
.legend span { display: inline-block; margin-right: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin-top: .5rem; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
td:first-child { color: var(--quiet); } tr:last-child td { border-bottom: 0; }
.facts td:first-child { width: 14rem; } .facts td { overflow-wrap: anywhere; }
div.row-text { overflow-wrap: anywhere; background: var(--page); padding: .6rem; margin: .5rem 0;
  border-radius: 6px; font-size: 13px; max-height: 16rem; overflow-y: auto; }
svg { width: 100%; height: auto; } svg text { fill: var(--quiet); font-size: 12px; }
svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke-width: 1.8; }
svg .raw { stroke: var(--train); opacity: .25; } svg .smooth { stroke: var(--train); }
svg .held { stroke: var(--held); } svg circle { fill: var(--held); }
@media (max-width: 600px) { main { padding: 0 .5rem; } section { padding: .75rem; }
  .facts td, .facts td:first-child { display: block; width: auto; border-bottom: 0; padding: 0; }
  .facts tr { display: block; border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .facts tr:last-child { border-bottom: 0; } .columns { font-size: 13px; }
  svg text { font-size: 26px; } }
"""
