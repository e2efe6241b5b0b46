"""Loss, perplexity and accuracy of a model on rows it has not seen."""

import contextlib
import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError, DataError
from strop.core.files import write_json
from strop.data import Row, Rows, encode_all
from strop.data.reading.columns import Columns
from strop.data.reading.read import read_by
from strop.evaluation.labels import label_set, reasons, right_answer, with_answer
from strop.evaluation.result import Estimate, Evaluation
from strop.evaluation.scoring import score
from strop.metrics.divergence import perplexity
from strop.metrics.intervals import bootstrap, wilson
from strop.models import load
from strop.models.quantized.inference_layout import keep_layout
from strop.runs import report
from strop.training import Run
from strop.training.run_data import columns_of_run, rows_of_run

PADDED_TOKENS = 2_000_000
"""Token ids handed to the model at once, padding included: 16 MB."""


WITHOUT_REASONING = "labels are scored without the reasoning of the rows, which would tell them"
"""Note on an accuracy on rows that have some."""


def evaluate(
    run_or_model: Any,
    data: Any = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
) -> Evaluation:
    """Measure loss, perplexity and, where answers are labels, accuracy.

        loss = -(sum over answer tokens of log p) / (number of answer tokens)

    Answers are labels when at most 20 distinct ones serve all rows. The model's choice is then
    the label with the highest total log-probability of its tokens and the end token after it.
    Reasoning of a row counts in the loss; labels are scored without it, as it would tell them.

    Args:
        run_or_model: a Run, its folder, a model's name or folder, or (model, tokenizer).
        data: what `strop.data.read` takes; for a run, read as the data it was trained on, and None
            takes the rows that it held out.
        limit: take only this many rows, drawn with `seed`; None takes all.
        seed: of the rows drawn and of the bootstrap.
        columns: how its columns are read, where not as those of the run's own data.

    Raises:
        DataError: no row has an answer, or rows cannot be used.
        ConfigError: there is no such run or model, or `limit` is below 1.
    """
    rows = _drawn(_rows(run_or_model, data, columns), limit, seed)
    model, tokenizer = opened(run_or_model)
    return _measured(model, tokenizer, rows, seed)


def compare(
    run: Run,
    data: Any = None,
    *,
    base: Evaluation | None = None,
    limit: int | None = None,
    seed: int = 0,
    columns: Columns | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Measure a run and the model it started from on the same rows; keep both in its folder.

    What evaluation.json already holds for the same rows is not measured again for the base model.

    Args:
        run: a run with an adapter or a checkpoint.
        data: what `strop.data.read` takes; None takes the rows that the run held out.
        base: the base model on the same rows, where that is known already.
        limit: as in `evaluate`.
        seed: as in `evaluate`.
        columns: as in `evaluate`.

    Returns:
        The base model's evaluation and the tuned one's; they stand in evaluation.json and in
        report.html as well.
    """
    rows = _drawn(_rows(run, data, columns), limit, seed)
    recorded = run.evaluation or {}
    same = _fingerprint(rows)
    if base is None and recorded.get("rows_sha256") == same:
        base = Evaluation.from_plain(recorded["base"])
    if base is None:
        base = _measured(*run.load_base(), rows, seed)
    tuned = _measured(*run.load(), rows, seed)
    if data is not None and (trained := _trained_on(run, rows)):
        why = (
            f"{trained:,} of these {len(rows):,} rows are among those that the run was trained on, "
            "so they say little of new ones"
        )
        tuned = dataclasses.replace(tuned, note="; ".join(filter(None, (tuned.note, why))))
    record = {
        "data": rows.source,
        "rows_sha256": same,
        "seed": seed,
        "base": base.plain(),
        "tuned": tuned.plain(),
    }
    write_json(run.evaluation_file, record)
    report.write(run)
    return base, tuned


def _rows(run_or_model: Any, data: Any, columns: Columns | None) -> Rows:
    """Return the rows to measure on: those given, or those that a run held out."""
    if data is not None:
        return read_by(data, _columns(run_or_model, columns))
    run = _run(run_or_model)
    if run is None:
        raise ConfigError("only a run has held-out rows; name a file of rows to measure a model on")
    both = rows_of_run(run.record)
    if both is None or not len(both[1]):
        why = "held out no rows" if both else "was trained on rows that are no longer at hand"
        raise ConfigError(f"{run.path} {why}; name a file of rows to measure on")
    return both[1]


def _trained_on(run: Run, rows: Rows) -> int:
    """Return how many rows are among those that a run was trained on, as far as these are at hand."""
    try:
        both = rows_of_run(run.record)
    except DataError:  # another file lies there now
        return 0
    trained = {_content(row) for row in both[0]} if both else set()
    return sum(_content(row) in trained for row in rows)


def _columns(run_or_model: Any, given: Columns | None) -> Columns:
    """Return how columns are read: for a run as those of its own data, but for what is given."""
    run = _run(run_or_model)
    if run is None:
        return given or Columns()
    return columns_of_run(run.record, given)


def _run(run_or_model: Any) -> Run | None:
    if isinstance(run_or_model, Run):
        return run_or_model
    named = isinstance(run_or_model, (str, Path)) and (Path(run_or_model) / "run.json").is_file()
    return Run.open(run_or_model) if named else None


def opened(run_or_model: Any) -> tuple[Any, Any]:
    """Return model and tokenizer of a Run, its folder, a model's name or folder, or a pair."""
    if isinstance(run_or_model, tuple):
        return run_or_model
    run = _run(run_or_model)
    return load(str(run_or_model)) if run is None else run.load()


def _drawn(rows: Rows, limit: int | None, seed: int) -> Rows:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be at least 1")
    if limit is None or limit >= len(rows.rows):
        return rows
    chosen = sorted(random.Random(seed).sample(range(len(rows.rows)), limit))
    return dataclasses.replace(rows, rows=[rows.rows[i] for i in chosen])


def _fingerprint(rows: Rows) -> str:
    return hashlib.sha256("".join(map(_content, rows.rows)).encode()).hexdigest()


def _content(row: Row) -> str:
    """Return the SHA-256 of what a row says, wherever it stands."""
    plain = json.dumps([row.messages, row.text, row.tools], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def _measured(model: Any, tokenizer: Any, rows: Rows, seed: int) -> Evaluation:
    start = time.perf_counter()
    labels = label_set(rows.rows)
    apart = labels is not None and any(map(reasons, rows.rows))
    questions = [with_answer(row, label) for row in rows.rows for label in labels or ()]
    if labels is None or apart:
        truth = list(range(len(questions), len(questions) + len(rows.rows)))
        questions += rows.rows
    else:
        n = len(labels)
        truth = [i * n + labels.index(right_answer(row) or "") for i, row in enumerate(rows.rows)]
    with _inference_only(model):
        scored = _scores(model, tokenizer, questions)
    sums = torch.stack([-scored[i].double().sum() for i in truth]).cpu()  # [B]
    counts = torch.tensor([scored[i].numel() for i in truth])  # [B]
    if not counts.sum():
        raise DataError(f"no row of {rows.source} has an answer to measure")
    loss = Estimate(float(sums.sum() / counts.sum()), *bootstrap(sums, counts, seed=seed))
    confusion = _confusion(labels, rows.rows, scored) if labels else None
    return Evaluation(
        rows=len(rows.rows),
        tokens=int(counts.sum()),
        loss=loss,
        perplexity=Estimate(*map(perplexity, (loss.value, loss.low, loss.high))),
        accuracy=_accuracy(confusion) if confusion else None,
        confusion=confusion,
        seconds=round(time.perf_counter() - start, 3),
        note=WITHOUT_REASONING if apart else None,
    )


@contextlib.contextmanager
def _inference_only(model: Any) -> Iterator[None]:
    """Hold the model in eval mode with nothing to train inside the block, and as it was after it.

    What is trained may not be folded into other weights or computed in a fused block; a model with
    something to train keeps the layout of its 4-bit weights, as it may train on.
    """
    was_training = model.training
    trained = [p for p in model.parameters() if p.requires_grad]
    restore_layout = keep_layout(model) if trained else None
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        if restore_layout is not None:
            restore_layout()
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(was_training)


def _confusion(
    labels: Sequence[str], rows: Sequence[Row], scored: Sequence[Tensor]
) -> dict[str, dict[str, int]]:
    table = {right: dict.fromkeys(labels, 0) for right in labels}
    totals = [s.double().sum().item() for s in scored]
    for i, row in enumerate(rows):
        of_row = totals[i * len(labels) : (i + 1) * len(labels)]
        table[right_answer(row) or ""][labels[of_row.index(max(of_row))]] += 1
    return table


def _accuracy(confusion: dict[str, dict[str, int]]) -> Estimate:
    hits = sum(chosen[right] for right, chosen in confusion.items())
    rows = sum(sum(chosen.values()) for chosen in confusion.values())
    return Estimate(hits / rows, *wilson(hits, rows))


def _scores(model: Any, tokenizer: Any, rows: Sequence[Row]) -> list[Tensor]:
    """Return for each row the log-probabilities of its answer tokens."""
    pairs = [(example.ids, example.labels) for example in encode_all(rows, tokenizer)]
    scored: list[Tensor] = []
    while pairs:
        size, longest = 0, 0
        for ids, _ in pairs:
            longest = max(longest, len(ids))
            if size and longest * (size + 1) > PADDED_TOKENS:
                break
            size += 1
        scored += score(model, pairs[:size])
        pairs = pairs[size:]
    return scored
