"""Evaluation of a run beside its base model and other models, or of one model."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.core.errors import ConfigError, MissingPackageError
from strop.core.progress import Progress, silent

if TYPE_CHECKING:
    from strop.evaluation.plan import Metrics


def evaluate(
    target: str,
    data: Path | None = None,
    *,
    against: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    metrics: "Callable[[], Metrics] | None" = None,
) -> dict[str, Any]:
    """Measure a model on rows.

    Args:
        target: a run folder, a checkpoint or a model.
        data: a file of rows; None takes those that the run held out.
        against: other runs, checkpoints and models to measure on the same rows.
        limit: the most rows to take.
        seed: of the rows drawn.
        columns: settings `map`, `ignore_columns`, `instruction`, `encoding` of this file, where they are
            not those of the run's own data.
        metrics: gives what is measured, by `metrics_of`, once the rest is checked; None takes what
            suits the data.

    Returns:
        `base`, `tuned` and their `difference` for a run, with `against` for each other model its
        own measures and the difference to it; `model` for anything else.

    Raises:
        StropError: the run, the model or the data cannot be used.
    """
    from strop.data.reading.blend import check_files

    if data is not None:
        check_files(str(data))
    _check_names(target, *against)
    from strop import evaluation
    from strop.data.reading.columns import columns_of
    from strop.evaluation.recorded import plain
    from strop.runs.run import Run

    measured = (metrics or metrics_of)()
    how: dict[str, Any] = {"limit": limit, "seed": seed, "columns": columns_of(columns or {})}
    if not Run.is_at(target):
        if against or measured.judge:
            flag = "--against" if against else "--judge"
            raise ConfigError(f"{flag} compares a run with others, and {target} is no run")
        one = evaluation.evaluate(target, data, metrics=measured, **how)
        return {"data": str(data), "model": one.plain()}
    run = Run.open(target)
    comparison = evaluation.compare(run, data, against=against, metrics=measured, **how)
    return {
        "data": "the run's held-out data" if data is None else str(data),
        "run": str(run.path),
        **plain(comparison),
    }


def evaluate_tasks(
    target: str,
    tasks: Sequence[str],
    *,
    against: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a model on tasks of lm-evaluation-harness.

    Args:
        target: a run folder, a checkpoint or a model.
        tasks: names of tasks and groups of the harness, and YAML files of one's own.
        against: other runs, checkpoints and models to measure on the same tasks.
        options: by name `num_fewshot` (examples before each question; as the task says without it),
            `apply_chat_template` and `limit` (questions of each task, from its first).
        seed: of the bootstrap.
        progress: called while requests are scored and answers generated.

    Returns:
        As `evaluate` does, each measure by `TASK.METRIC`; `harness` has what the harness itself says
        of each model.

    Raises:
        StropError: the run, the model or a task cannot be used.
        MissingPackageError: lm-eval is not installed.
    """
    _check_names(target, *against)
    options = options or {}
    for option, least in (("limit", 1), ("num_fewshot", 0)):
        if (number := options.get(option)) is not None and number < least:
            flag = "--" + option.replace("_", "-")
            raise ConfigError(f"{flag} is {number}; it must be at least {least}")
    if not tasks:
        raise ConfigError("--tasks names no task; write it as --tasks arc_easy,my_task.yaml")
    if find_spec("lm_eval") is None:
        raise MissingPackageError(
            "--tasks needs lm-evaluation-harness; pip install 'strop[lm-eval]'"
        )
    from strop.evaluation.harness.loading import Harness
    from strop.evaluation.harness.tasks import compare_on_tasks
    from strop.evaluation.opening import opened
    from strop.runs.run import Run

    harness = Harness(names=tasks, progress=progress, **options)
    source = f"tasks {', '.join(tasks)}"
    others = [(name, functools.partial(opened, name)) for name in against]
    if not Run.is_at(target):
        if against:
            raise ConfigError(f"--against compares a run with others, and {target} is no run")
        alone = [(target, functools.partial(opened, target))]
        return {"data": source, **compare_on_tasks(alone, harness, seed)}
    run = Run.open(target)
    models: list[tuple[str, Callable[[], Any]]] = [
        ("base", run.load_base),
        ("tuned", run.load),
        *others,
    ]
    return {"data": source, "run": str(run.path), **compare_on_tasks(models, harness, seed)}


def _check_names(*targets: str) -> None:
    """Raise ConfigError for a name that cannot be a run or a model, before anything heavy is imported."""
    from strop.models.files.places import check_name

    for name in targets:
        if not Path(name).is_dir():
            check_name(name)


def gated(
    evaluated: dict[str, Any],
    *,
    below: Mapping[str, float] | None = None,
    above: Mapping[str, float] | None = None,
    no_worse_than: str | None = None,
    junit: Path | None = None,
) -> dict[str, Any]:
    """Return an evaluation with `gate`: whether it passed, and each check with its sentence.

    Args:
        evaluated: what `evaluate` returned.
        below: measures that fail below a number.
        above: measures that fail above a number.
        no_worse_than: name of a run or model that `evaluated` has under `against`.
        junit: file to write the checks to, as JUnit XML.
    """
    from dataclasses import asdict

    from strop.evaluation.gate import checks, write_junit

    results = checks(
        evaluated,
        below=below or {},
        above=above or {},
        no_worse_than=no_worse_than,
    )
    if junit is not None:
        write_junit(junit, f"strop eval {evaluated.get('run', 'model')}", results)
    passed = all(check.passed for check in results)
    return {**evaluated, "gate": {"passed": passed, "checks": [asdict(c) for c in results]}}


def metrics_of(options: Mapping[str, Any] | None = None, progress: Progress = silent) -> "Metrics":
    """Return what is measured, of options as texts.

    Args:
        options: by name `metrics` (joined by commas), `regex`, `schema` (a file), `rules` (by name),
            `functions` (as `my_file.py:score`), `judge` (an address), `judge_model`, `max_tokens`,
            `cluster` (a column), `forgetting` and `retain` (a file).
        progress: called while rows are scored and answers generated.

    Raises:
        ConfigError: an option cannot be used.
    """
    from strop.evaluation.answers.judge import Judge
    from strop.evaluation.plan import Metrics

    options = options or {}
    names = options.get("metrics")
    url = options.get("judge")
    if options.get("judge_model") and not url:
        raise ConfigError("--judge-model names a model at an address; give --judge URL too")
    return Metrics(
        names=None if names is None else [n.strip() for n in names.split(",") if n.strip()],
        regex=options.get("regex"),
        schema=_schema(options.get("schema")),
        rules=_rules(options.get("rules")),
        functions=options.get("functions") or (),
        judge=Judge(url, options.get("judge_model")) if url else None,
        max_new_tokens=options.get("max_tokens"),
        cluster=options.get("cluster"),
        forgetting=options.get("forgetting") or False,
        retain=options.get("retain"),
        progress=progress,
    )


def _schema(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError(f"--schema {path} cannot be read as JSON: {e}") from e


def _rules(rules: Mapping[str, Any] | None) -> Any:
    if rules is None:
        return None
    from strop.evaluation.answers.rules import Rules

    try:
        return Rules.read(rules)
    except ConfigError as e:
        raise ConfigError(f"--rules: {e}") from e
