"""One page that compares several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.progress import duration
from strop.core.system.disk import format_size
from strop.metrics.names import format_measure, is_share
from strop.runs.loss_curve import smoothed
from strop.runs.report import facts
from strop.runs.report.charts import Figure, Series, keys, line_chart
from strop.runs.report.curves import held_out_series, series_of
from strop.runs.report.measured import Change, changes
from strop.runs.report.page import write_page
from strop.runs.report.plots import shares_plot
from strop.runs.run import Run

_STYLES = 8
"""Lines that differ by colour and dashes; further ones repeat them."""


def write_comparison(
    runs: Sequence[Run], between: Sequence[Mapping[str, Any] | None], path: Path
) -> Path:
    """Write a page that compares runs: what differs in their settings, curves, measures.

    Args:
        runs: at least two.
        between: for each run after the first, its measures less the first's as plain data, paired
            on equal rows; None where the rows are not equal.
        path: of the page.
    """
    names = _names([run.path for run in runs])
    records = [run.record for run in runs]
    evaluations = [run.evaluation for run in runs]
    write_page(
        path,
        "comparison.html.jinja",
        title=f"{len(runs)} runs compared",
        names=names,
        overview=_overview(records),
        settings=_differing(records),
        figures=_figures(runs, names),
        gains=_gains(names, evaluations),
        between=_between(names, evaluations, between),
        unpaired=[n for n, of in zip(names[1:], between, strict=True) if of is None],
        commands=[
            (name, facts.command(record, str(run.path)))
            for name, record, run in zip(names, records, runs, strict=True)
        ],
    )
    return path


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the names of the folders, with their parents where equal."""
    names = [path.resolve().name for path in paths]
    return names if len({*names}) == len(names) else [str(path) for path in paths]


def _overview(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return how far each run came, and what it took."""
    rows = [
        ["state", *(facts.state(record).split(" · ")[0] for record in records)],
        ["model", *(str(record["settings"]["model"]) for record in records)],
        ["data", *(str(record["data"]["source"]) for record in records)],
        ["rows trained on", *(f"{record['data']['rows']:,}" for record in records)],
    ]
    measured = [record.get("measured") or {} for record in records]
    rows.append(["time", *(duration(m["seconds"]) if m else "" for m in measured)])
    rows.append(["tokens trained on", *(f"{m['tokens']:,}" if m else "" for m in measured)])
    peaks = [m.get("peak_memory", {}).get("main") for m in measured]
    rows.append(["main memory", *("" if peak is None else format_size(peak) for peak in peaks)])
    return rows


def _differing(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the settings and versions in which runs differ, a column for each run."""
    rows = []
    for group in ("settings", "versions"):
        for name in dict.fromkeys(name for record in records for name in record[group]):
            values = [facts.word(record[group].get(name)) for record in records]
            if name != "out" and len({*values}) > 1:
                rows.append([name, *values])
    return rows


def _figures(runs: Sequence[Run], names: Sequence[str]) -> list[Figure]:
    """Return the curves of all runs over each other: losses, and each measure while training."""
    logs = [run.log for run in runs]
    held_out = [held_out_series(log) for log in logs]
    curves = [("training loss, running mean", [smoothed(series_of(log, "loss")) for log in logs])]
    for name in dict.fromkeys(name for of_run in held_out for name in of_run):
        title = f"{name.replace('_', ' ')} on the held-out rows"
        curves.append((title, [of_run.get(name, []) for of_run in held_out]))
    figures = []
    for title, of_runs in curves:
        series = [
            Series(name, points, f"s{number % _STYLES}", dots="held-out" in title)
            for number, (name, points) in enumerate(zip(names, of_runs, strict=True))
            if points
        ]
        if series:
            figures.append(_figure(title, series))
    return figures


def _figure(title: str, series: Sequence[Series]) -> Figure:
    rows = []
    for s in series:
        (_, first), (step, last) = s.points[0], s.points[-1]
        losses = (first, min(value for _, value in s.points), last)
        rows.append([s.name, *(f"{loss:.4f}" for loss in losses), f"{step:g}"])
    ends = "; ".join(f"{row[0]}: {row[1]} at first, {row[3]} at step {row[4]}" for row in rows)
    head = ["run", "first", "lowest", "last", "last step"]
    return Figure(title, line_chart(series, f"{title}. {ends}"), head, rows, keys(series))


def _gains(
    names: Sequence[str], evaluations: Sequence[Mapping[str, Any] | None]
) -> list[tuple[str, str, list[Change], int]]:
    """Return of each evaluated run its difference to its base: name, data, measures, rows."""
    return [
        (name, of["data"], changes(of["difference"], of["base"], of["tuned"]), of["tuned"]["rows"])
        for name, of in zip(names, evaluations, strict=True)
        if of is not None
    ]


def _between(
    names: Sequence[str],
    evaluations: Sequence[Mapping[str, Any] | None],
    between: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    """Return each measure's value of all runs on equal rows, and each difference to the first."""
    first = evaluations[0]
    of_others = zip(names[1:], evaluations[1:], between, strict=True)
    paired = [
        (n, of, change) for n, of, change in of_others if of is not None and change is not None
    ]
    if first is None or not paired:
        return None
    tuned = [first["tuned"], *(of["tuned"] for _, of, _ in paired)]
    shares = {name: is_share(name, tuned) for name in paired[0][2]}
    values = [
        [name.replace("_", " "), *(format_measure(of[name], share) for of in tuned)]
        for name, share in sorted(shares.items(), key=lambda of_one: not of_one[1])
        if all(name in of for of in tuned)
    ]
    share = next((name for name, is_one in shares.items() if is_one), None)
    chart = None
    if share is not None:
        evaluated = [(names[0], first), *((name, of) for name, of, _ in paired)]
        before, after = (
            {name: of[model].get(share) for name, of in evaluated} for model in ("base", "tuned")
        )
        title = f"{share.replace('_', ' ')} of each run"
        chart = (title, shares_plot(title, before, after, left=190))
    return {
        "chart": chart,
        "names": [names[0], *(name for name, *_ in paired)],
        "values": values,
        "changes": [(n, changes(change, first["tuned"], of["tuned"])) for n, of, change in paired],
        "rows": first["tuned"]["rows"],
        "data": first["data"],
    }
