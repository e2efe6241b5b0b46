"""Indexing documents, searching them, asking about them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from strop.core.progress import Progress, silent


def index(
    docs: Path,
    out: Path,
    *,
    chunk_tokens: int = 256,
    embedder: str = "auto",
    rebuild: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Index documents, or bring their index up to date, and return what it holds.

    Args:
        docs: a file or a folder of text, Markdown, HTML, PDF, DOCX or JSONL files.
        out: folder of the index.
        chunk_tokens: most tokens of a chunk.
        embedder: an embedding model, "auto" or "none".
        rebuild: index everything anew.
        progress: called while documents are read.

    Raises:
        StropError: the documents or the index cannot be used.
    """
    from strop.retrieval.building import Indexing, build_index

    how = Indexing(chunk_tokens, embedder, rebuild, progress)
    return build_index(docs, out, how)


def search(folder: Path, question: str, *, k: int = 5, dense: bool = True) -> dict[str, Any]:
    """Return the best chunks for a question.

    Args:
        folder: of an index.
        question: any text.
        k: most hits.
        dense: search by meaning too.

    Raises:
        StropError: there is no index, or it is damaged.
    """
    from strop.retrieval.index import Index

    opened = Index(folder, dense=dense)
    hits = opened.search(question, k)
    return {"hits": [hit.as_dict() for hit in hits], "notes": opened.notes}


def answer_from_documents(
    target: str,
    folder: Path,
    question: str,
    *,
    max_tokens: int = 256,
    uncertified: bool = False,
    **retrieving: Any,
) -> dict[str, Any]:
    """Answer a question from documents, or from the model alone where they have no answer.

    Args:
        target: a run folder, a GGUF file, an exported folder or a model.
        folder: of an index; where it is missing, damaged or slow the model answers alone.
        question: of the user.
        max_tokens: length of the longest answer.
        uncertified: take an export that is not certified, or changed since.
        retrieving: fields of `strop.retrieval.evidence.Retrieving`.

    Raises:
        StropError: the run or the model cannot be used, or a setting cannot work.
    """
    from strop.core.errors import ConfigError
    from strop.retrieval.evidence import Retrieving, evidence
    from strop.retrieval.index import Index
    from strop.retrieval.prompts import parsed, prompt_text
    from strop.serving.chat import chat_model

    if not question.strip():
        raise ConfigError("the question is empty")
    how = Retrieving(**retrieving)
    reply = chat_model(target, uncertified=uncertified)
    documents = evidence(lambda: Index(folder), question, how)
    prompt = prompt_text(question, documents.shown)
    text = "".join(reply([{"role": "user", "content": prompt}], max_tokens))
    answer = parsed(text, documents.shown)
    return {
        "question": question,
        "answer": answer.answer,
        "answered_from": "documents" if documents.hits else "model",
        "citations": [{"number": n, "source": documents.hits[n - 1].source} for n in answer.cited],
        "quotes": [
            {"text": quote.text, "number": quote.number, "verbatim": quote.verbatim}
            for quote in answer.quotes
        ],
        "refused": answer.refused,
        "text": text,
        **documents.as_dict(),
    }


def raft(
    source: Path,
    folder: Path,
    out: Path,
    *,
    writer: str | None = None,
    writer_model: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write training rows in which the right document is hidden among others.

    Args:
        source: a file of questions with answers; with a writer, the documents of the index.
        folder: of an index of the documents.
        out: JSONL file to write.
        writer: a model or an OpenAI-compatible address that writes questions about the documents.
        writer_model: its name at that address.
        overwrite: replace `out`.
        options: fields of `strop.retrieval.raft.rows.Mixture`, and with a writer those of
            `strop.retrieval.raft.writer.Writing`.

    Raises:
        StropError: the questions, the index or the writer cannot be used, or `out` is there.
    """
    from collections import Counter

    from strop.core.errors import ConfigError, DataError
    from strop.core.files import check_new
    from strop.data.writing import check_writable, write_records
    from strop.retrieval.index import Index
    from strop.retrieval.raft.questions import question_answers
    from strop.retrieval.raft.rows import Mixture, raft_rows
    from strop.retrieval.raft.writer import Writing, open_writer, written_questions

    check_writable(out)
    check_new(out, overwrite=overwrite)
    writing = {name: options.pop(name) for name in ("each", "chunks") if name in options}
    mixture = Mixture(**options)
    index = Index(folder)
    dropped: Counter[str] = Counter()
    if writer is None:
        questions, notes = question_answers(source)
    else:
        if str(source.resolve()) != index.record["root"]:
            raise ConfigError(
                f"{folder} is an index of {index.record['root']}, not of {source.resolve()}; name "
                "the documents that it was made of"
            )
        how = Writing(**writing, progress=mixture.progress)
        questions = list(written_questions(index, open_writer(writer, writer_model), how, dropped))
        notes = []
        if not questions:
            reasons = "; ".join(f"{why}: {count:,}" for why, count in dropped.most_common())
            raise DataError(f"no question of {writer} can be used ({reasons}); take a larger model")
    rows = list(raft_rows(index, questions, mixture))
    write_records(out, rows, [{}] * len(rows))
    return {
        "out": str(out),
        "rows": len(rows),
        "kinds": dict(Counter(row["kind"] for row in rows)),
        "quoting": sum(row["messages"][-1]["content"].startswith("> ") for row in rows),
        "dropped": dict(dropped),
        "notes": [*notes, *index.notes],
    }


def compare(
    run: str,
    folder: Path,
    source: Path,
    *,
    raft: str | None = None,
    picture: Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, Any]:
    """Measure base and tuned models with and without retrieval on the same questions.

    Args:
        run: folder of a run, or a model.
        folder: of an index of the documents.
        source: file of questions with answers.
        raft: folder of a run that was trained on rows of `strop raft`.
        picture: SVG file to write: right answers of each arm.
        progress: called while models answer.
        options: fields of `strop.retrieval.comparison.Comparing`, and `k`, `threshold`, `timeout`.

    Raises:
        StropError: a run, the index or the questions cannot be used.
    """
    from strop.core.errors import ConfigError
    from strop.core.files import check_new
    from strop.retrieval.comparison import Comparing, compare_retrieval, draw_arms
    from strop.retrieval.evidence import Retrieving
    from strop.retrieval.index import Index
    from strop.retrieval.raft.questions import question_answers
    from strop.runs.run import Run

    if raft is not None and not Run.is_at(Path(raft)):
        raise ConfigError(f"--raft {raft} is no run folder; train one on the rows of strop raft")
    if picture is not None:
        check_new(picture, overwrite=True)
    names = ("k", "threshold", "timeout")
    retrieving = Retrieving(**{name: options.pop(name) for name in names if name in options})
    how = Comparing(retrieving, progress=progress, **options)
    questions, notes = question_answers(source)
    index = Index(folder)
    result = compare_retrieval(run, index, questions, how, raft)
    if picture is not None:
        draw_arms(picture, result)
    return {**result, "notes": [*notes, *index.notes]}


def teach(
    docs: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    composition: Mapping[str, int] | None = None,
    shown: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(silent),
    **options: Any,
) -> dict[str, Any]:
    """Train a model on documents and what is written about them, and measure what it learned.

    The files that it is trained on lie in OUT.teach; a stopped command goes on where it was.

    Args:
        docs: a file or folder.
        out: folder of the run.
        settings: fields of `Settings` that are set, `model` among them.
        overwrite: train anew; what the writer wrote stays.
        composition: fields of `strop.retrieval.teach.writing.Composition` that are set.
        shown: gives a progress while documents are read and written about, and while the model is
            measured; training shows its own.
        options: fields of `strop.retrieval.teach.course.Teaching`.

    Raises:
        StropError: documents, questions, the writer, the settings or the model cannot be used.
    """
    from strop.actions.train import train
    from strop.models.loading import load_tokenizer
    from strop.planning.settings import Settings
    from strop.retrieval.teach import course
    from strop.retrieval.teach.material import HELD_OUT
    from strop.retrieval.teach.writing import Composition
    from strop.runs.run import Run

    how = course.Teaching(**options, composition=Composition(**(composition or {})))
    explicit = course.settings_of(settings)
    defaults = Settings.read(explicit)
    run, folder = Run(out), out.with_name(f"{out.name}.teach")
    tokenizer = load_tokenizer(defaults.model)
    with shown() as progress:
        prepared = course.prepare(docs, folder, how, tokenizer, defaults.seed, progress)
    course.check_same_material(run, folder, overwrite=overwrite)
    begun = Run.is_at(out) and run.began and not overwrite
    if not begun or not run.finished:
        explicit |= {**course.schedule(explicit, prepared.material), "out": str(out)}
        explicit |= {"held_out": str(folder / HELD_OUT)}
        train(explicit, resume=out if begun else None, overwrite=overwrite)
    with shown() as progress:
        return course.taught(run, prepared, progress)
