"""report.html: a run as one self-contained page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from strop.core.digest import file_digest
from strop.data.preview import Piece, as_html
from strop.planning.evaluations import BestModel
from strop.runs import model_card
from strop.runs.diagnosis.finding import Finding
from strop.runs.log import read_drawn_answers, read_evaluation_rows
from strop.runs.report import facts
from strop.runs.report.answers import changed_answers, drawn_rows
from strop.runs.report.curves import figures, noise_figures, probe_figure
from strop.runs.report.measured import evaluation_facts
from strop.runs.report.page import write_page
from strop.runs.run import Run


def write(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run from the files of its folder, and the card of its adapter.

    Args:
        run: the run.
        path: of the page; None takes `run.report`.

    Returns:
        Where the page is.
    """
    path = path or run.report
    record, evaluation = run.record, run.evaluation
    as_set, others = facts.settings_tables(record["settings"])
    samples, probe = record.get("samples", []), record.get("probe") or {}
    write_page(
        path,
        "report.html.jinja",
        title=facts.title(record),
        state=facts.state(record),
        path=str(run.path),
        warning=record.get("diverged") or "",
        diagnosis=[Finding(**finding) for finding in record.get("diagnosis", ())],
        best=best_sentence(run),
        figures=[
            *figures(run.log, (record.get("best") or {}).get("step")),
            *noise_figures(run.log, record["settings"]["batch_size"]),
            *([probe_figure(probe)] if "chosen" in probe else []),
        ],
        probe=probe.get("sentence", ""),
        evaluation=evaluation_facts(evaluation),
        answers=_answers(run, evaluation),
        drawn=drawn_rows(read_drawn_answers(run.path)),
        plan=facts.plan_beside_fact(record),
        sentence=(record.get("planned") or {}).get("sentence", ""),
        data=facts.data_facts(record["data"]),
        samples=[Markup(as_html(Piece(**piece) for piece in row)) for row in samples],
        kinds=facts.meanings(samples),
        exports=record.get("exports", {}),
        command=facts.command(record, str(run.path)),
        as_set=as_set,
        others=others,
        versions=facts.versions(record),
        digests=facts.digests(record, evaluation),
    )
    if run.adapter_folder.is_dir():
        model_card.write(run, run.adapter_folder)
    return path


def _answers(run: Run, evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the answers that changed most, by what they are ordered; None where none are on file."""
    file = run.evaluation_rows_file
    if evaluation is None or not file.is_file():
        return None
    if file_digest(file) != evaluation.get("outcomes_sha256"):
        return None  # of another evaluation, or changed by hand
    labels = evaluation.get("measured", {}).get("labels")
    lines = read_evaluation_rows(file)
    by, better, worse = changed_answers(lines, labels)
    return {"by": by, "better": better, "worse": worse} if better or worse else None


def best_sentence(run: Run) -> str:
    """Return a sentence about the step whose adapter a run keeps, if that of the best evaluation."""
    record = run.record
    best = record.get("best")
    if best is None:
        return ""
    by = BestModel(best.get("metric", "loss"))
    name, value = by.metric.replace("_", " ").replace("/", " "), best[by.key]
    most, better = ("highest", "higher") if by.greater else ("lowest", "lower")
    sentence = (
        f"The adapter is that of step {best['step']:,}, whose {name} on the held-out rows, "
        f"{value:.3f}, is the {most}."
    )
    first = next((x[by.key] for x in run.log if by.key in x), None)
    if first is not None and (first > value if by.greater else first < value):
        sentence += f" Before training it was {better}: {first:.3f}."
    if record.get("stopped_early"):
        sentence += (
            f" The run stopped early, after step {record['steps_done']:,}, as none was better."
        )
    return sentence
