"""Teaching a model documents: what is written about them, the training, and the proof."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.digest import file_digest
from strop.core.errors import ConfigError, DataError
from strop.core.files import read_json, write_json
from strop.core.progress import Progress
from strop.data.reading.blend import sources_of
from strop.evaluation import Metrics, compare
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index
from strop.retrieval.raft.writer import open_writer
from strop.retrieval.teach.facts import Fact, facts_of, with_test_wordings
from strop.retrieval.teach.material import (
    HELD_OUT,
    QUESTIONS,
    REPLAY_TEST,
    TEXTS,
    Material,
    replay_rows,
    write_material,
)
from strop.retrieval.teach.recall import MEASURE, draw_recall, recall_curve, slope
from strop.retrieval.teach.writing import Composition, facts_in, write_about
from strop.runs.run import Run

WRITTEN, MATERIAL = "written.jsonl", "material.json"
SUMMARY, PICTURE = "teach.json", "recall.svg"
REPLAY_SHARE = 0.2
"""Of general text in the tokens of an epoch, where none is named."""
DEFAULTS: dict[str, Any] = {
    "epochs": 10.0,
    "batch_size": 8,
    "eval_metrics": MEASURE,
    "eval_rows": 60,
    "probe": False,
}
"""Of a training of facts, each of which has to be seen many times."""


@dataclasses.dataclass(frozen=True, slots=True)
class Teaching:
    """What a model is taught with.

    Attributes:
        writer: a model or an OpenAI-compatible address that writes about the documents.
        writer_model: its name at that address.
        questions: file of questions in several wordings, beside or instead of a writer.
        replay: file of general text and its share of an epoch's tokens, as in general.txt:0.1; None
            takes the packaged one, 0 replays nothing and measures by the packaged one.
        chunk_tokens: most tokens of a chunk of the documents.
        chunks: the writer writes about so many only.
        composition: what it writes about each.
    """

    writer: str | None = None
    writer_model: str | None = None
    questions: Path | None = None
    replay: str | None = None
    chunk_tokens: int = 256
    chunks: int | None = None
    composition: Composition = dataclasses.field(default_factory=Composition)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: one cannot work.
        """
        faults = []
        if self.writer is None and self.questions is None:
            faults.append(
                "nobody writes questions about the documents; name a model with --writer, or give "
                "questions in several wordings with --questions"
            )
        if self.replay is not None and not 0 <= self.replayed[1] < 1:
            faults.append(
                f"--replay is {self.replay!r}; write a file and its share of the tokens, as in "
                "general.txt:0.1, or 0"
            )
        for name, value in dataclasses.asdict(self.composition).items():
            least = 1 if name == "questions" else 0
            if value < least:
                faults.append(f"{name} is {value}; it must be {least} or more")
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def replayed(self) -> tuple[Path | None, float]:
        """File of general text, None for the packaged one, and its share of the tokens."""
        if self.replay is None:
            return None, REPLAY_SHARE
        if self.replay in ("0", "none"):
            return None, 0.0
        source = sources_of(self.replay)[0]
        share = source.weight if str(source.data) != self.replay else REPLAY_SHARE
        return Path(source.data), share


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """Files to train on, and what became of what the writer wrote."""

    material: Material
    dropped: Mapping[str, int]
    notes: Sequence[str]


def prepare(
    docs: Path, folder: Path, how: Teaching, tokenizer: Any, seed: int, progress: Progress
) -> Prepared:
    """Index documents, have questions and statements written, and write the files to train on.

    Args:
        docs: a file or folder.
        folder: of the files; what a stopped command wrote there is taken over.
        how: see `Teaching`.
        tokenizer: of the model that is taught.
        seed: of wordings and replay that are held out.
        progress: called while documents are read and written about.

    Raises:
        StropError: documents, questions, replay or the writer cannot be used.
    """
    given, notes = ([], []) if how.questions is None else facts_of(how.questions, seed)
    file, share = how.replayed
    trained, measured, more = replay_rows(file, seed)
    indexing = Indexing(how.chunk_tokens, "none", progress=progress)
    summary = build_index(docs, folder / "index", indexing)
    index = Index(folder / "index")
    lines: list[dict[str, Any]] = []
    if how.writer is not None:
        name, model = how.writer, how.writer_model
        lines = write_about(
            index,
            lambda: open_writer(name, model),
            how.composition,
            folder / WRITTEN,
            chunks=how.chunks,
            progress=progress,
        )
    facts: list[Fact] = [*given, *with_test_wordings(facts_in(lines), seed)]
    if not any(fact.held_out for fact in facts):
        raise DataError(
            f"the writer worded no question of {docs} twice, so none can be held out to see whether "
            "it was learned; take a larger one, or give --questions"
        )
    statements = [text for line in lines for text in line["statements"]]
    replay = (trained, measured)
    material = write_material(folder, index, facts, statements, replay, share, tokenizer)
    dropped: Counter[str] = Counter()
    for line in lines:
        dropped.update(line["dropped"])
    return Prepared(
        material, dict(dropped), [*summary["skipped"].values(), *summary["notes"], *notes, *more]
    )


def settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the training: those that are set, and what suits facts.

    Raises:
        ConfigError: one is set that teaching decides.
    """
    if taken := [name for name in ("data", "held_out", "method") if name in settings]:
        raise ConfigError(
            f"{', '.join(taken)} cannot be set: strop teach trains on the documents and holds out "
            "wordings; train on other rows with strop train"
        )
    return {**DEFAULTS, **settings}


def check_same_material(run: Run, folder: Path, *, overwrite: bool) -> None:
    """Check that a finished run was trained on the files as they are, and note them for a new one.

    Raises:
        ConfigError: they are others now.
    """
    names = (TEXTS, QUESTIONS, HELD_OUT, REPLAY_TEST)
    now = {name: file_digest(folder / name) for name in names if (folder / name).is_file()}
    trained = Run.is_at(run.path) and run.finished
    if (
        trained
        and not overwrite
        and (folder / MATERIAL).is_file()
        and read_json(folder / MATERIAL) != now
    ):
        raise ConfigError(
            f"{run.path} was taught other documents or questions; --overwrite teaches it anew, "
            "another --out leaves it as it is"
        )
    write_json(folder / MATERIAL, now)


def schedule(explicit: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """Return settings by which `epochs` passes over what is taught are one over weighed files."""
    passes = float(explicit["epochs"])
    if material.replay_weight == 0:
        return {"data": material.sources(1.0)}
    texts = material.folder / TEXTS
    rows = material.wordings + len(texts.read_text(encoding="utf-8").splitlines())
    steps = (rows + material.replay_weight * material.replay_rows) / explicit["batch_size"]
    every = explicit.get("eval_every") or max(1, math.ceil(steps))
    return {"data": material.sources(passes), "epochs": 1.0, "eval_every": every}


def taught(run: Run, prepared: Prepared, progress: Progress) -> dict[str, Any]:
    """Return what a run has learned and forgotten, written as teach.json and a picture too.

    Args:
        run: that was trained, to its end or not.
        prepared: that it was trained on.
        progress: called while models answer.
    """
    material = prepared.material
    points = recall_curve(run, material)
    summary: dict[str, Any] = {
        "run": str(run.path),
        "finished": run.finished,
        "folder": str(material.folder),
        **{k: v for k, v in dataclasses.asdict(material).items() if k != "folder"},
        "dropped": dict(prepared.dropped),
        "notes": list(prepared.notes),
        "curve": points,
        "slope": slope(points),
    }
    if run.finished:
        summary |= measured(run, material, progress)
    if points:
        summary["picture"] = str(material.folder / PICTURE)
        draw_recall(material.folder / PICTURE, points)
    write_json(material.folder / SUMMARY, summary)
    return summary


def measured(run: Run, material: Material, progress: Progress) -> dict[str, Any]:
    """Return recall of wordings that were not trained on and perplexity, before and after.

    `forgetting` is the share by which the perplexity of general text rose.
    """
    metrics = Metrics(
        names=[MEASURE, "exact_match", "token_f1"],
        forgetting=True,
        retain=material.folder / REPLAY_TEST,
        progress=progress,
    )
    comparison = compare(run, material.folder / HELD_OUT, metrics=metrics)
    table = {
        name: {
            "before": dataclasses.asdict(of.base.metrics[measure]),
            "after": dataclasses.asdict(of.tuned.metrics[measure]),
            "difference": dataclasses.asdict(of.difference[measure]),
        }
        for name, of, measure in (
            ("recall", comparison, MEASURE),
            ("exact_match", comparison, "exact_match"),
            ("token_f1", comparison, "token_f1"),
            ("perplexity", comparison.forgetting["retain"], "perplexity"),
        )
    }
    before, after = (table["perplexity"][name]["value"] for name in ("before", "after"))
    return {**table, "forgetting": after / before - 1}
