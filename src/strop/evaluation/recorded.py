"""evaluation.json and evaluation_rows.jsonl of a run: what was measured, and each row's outcomes."""

import dataclasses
import json
from collections.abc import Sequence

from strop.core.digest import file_digest
from strop.core.files import write_sealed, written_whole
from strop.evaluation.outcomes import Outcome
from strop.evaluation.plan import Plan
from strop.evaluation.result import Comparison
from strop.evaluation.rows import EvaluationRows
from strop.runs.run import Run


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedBase:
    """Outcomes of the base model on the same rows, as an earlier evaluation recorded them."""

    outcomes: list[Outcome]
    seconds: float


def recorded_base(run: Run, rows: EvaluationRows, plan: Plan) -> RecordedBase | None:
    """Return the base model's outcomes on these rows, if the run's folder has all that are planned."""
    recorded = run.evaluation or {}
    same = (recorded.get("rows_sha256"), recorded.get("measured")) == (rows.sha256, plan.facts)
    file = run.evaluation_rows_file
    if not same or not file.is_file() or file_digest(file) != recorded.get("outcomes_sha256"):
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    outcomes = [Outcome(**json.loads(line)["base"]) for line in lines]
    if len(outcomes) != len(rows.rows) or any(outcomes[i].answer is None for i in plan.places):
        return None
    return RecordedBase(outcomes, recorded["base"]["seconds"])


def write(
    run: Run,
    rows: EvaluationRows,
    plan: Plan,
    comparison: Comparison,
    outcomes: tuple[Sequence[Outcome], Sequence[Outcome]],
) -> None:
    """Write a comparison and the outcomes of base and tuned into a run's folder."""
    lines = (
        {"line": row.line, "base": _filled(base), "tuned": _filled(tuned)}
        for row, base, tuned in zip(rows.rows, *outcomes, strict=True)
    )
    with written_whole(run.evaluation_rows_file) as scratch:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        scratch.write_text(text, encoding="utf-8")
    record = {
        "data": rows.source,
        "rows_sha256": rows.sha256,
        "outcomes_sha256": file_digest(run.evaluation_rows_file),
        "measured": plan.facts,
        **plain(comparison),
    }
    write_sealed(run.evaluation_file, record)


def plain(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as plain data."""
    against = [
        {
            "name": other.name,
            "model": other.evaluation.plain(),
            "difference": {k: dataclasses.asdict(v) for k, v in other.difference.items()},
        }
        for other in comparison.others
    ]
    forgetting = {name: plain(of_set) for name, of_set in comparison.forgetting.items()}
    return {
        "base": comparison.base.plain(),
        "tuned": comparison.tuned.plain(),
        "difference": {k: dataclasses.asdict(v) for k, v in comparison.difference.items()},
        **({"against": against} if against else {}),
        **({"forgetting": forgetting} if forgetting else {}),
        **({"judge": dataclasses.asdict(comparison.verdicts)} if comparison.verdicts else {}),
    }


def _filled(outcome: Outcome) -> dict[str, object]:
    return {k: v for k, v in dataclasses.asdict(outcome).items() if v is not None}
