"""Models with and without retrieval, that works, fails or misleads, on the same questions."""

import dataclasses
import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.evaluation.scores import difference, estimate
from strop.metrics.intervals import Scores, ratio
from strop.metrics.text import contains, exact_match, token_f1
from strop.models import Sampling, load, sample
from strop.retrieval.evidence import Evidence, Retrieving, evidence
from strop.retrieval.index import Hit, Index
from strop.retrieval.prompts import Parsed, Shown, has_answer, parsed, prompt_text
from strop.retrieval.raft.questions import QuestionAnswer
from strop.runs.report.page import write_picture
from strop.runs.report.plots import shares_plot
from strop.runs.run import Run

WORKS, IRRELEVANT, DOWN = "works", "irrelevant", "down"
CONDITIONS = (WORKS, IRRELEVANT, DOWN)
"""What retrieval does: shows what it finds relevant, shows passages of others, shows nothing."""
_SHARES = ("exact_match", "contains", "refused", "cited", "hallucinated")


@dataclass(frozen=True, slots=True)
class Comparing:
    """How models are compared.

    Attributes:
        retrieving: how documents are chosen where retrieval works.
        limit: most questions, drawn by the seed; None takes all.
        max_new_tokens: longest answer.
        seed: of the questions, of irrelevant passages, and of intervals.
        progress: called while models answer.
    """

    retrieving: Retrieving = dataclasses.field(default_factory=Retrieving)
    limit: int | None = None
    max_new_tokens: int = 96
    seed: int = 0
    progress: Progress = silent


@dataclass(slots=True)
class _Arm:
    """A model under one condition of retrieval, and its scores."""

    name: str
    scores: dict[str, Scores]


def compare_retrieval(
    run: Path | str,
    index: Index,
    questions: Sequence[QuestionAnswer],
    how: Comparing,
    raft: Path | str | None = None,
) -> dict[str, Any]:
    """Return the measures of every arm with intervals, and their paired differences.

    Arms are the base model, the tuned one and one tuned with retrieved documents, each without
    documents ("down": what `ask` does without an index) and with them ("works", "irrelevant").
    `exact_match`, `contains` and `token_f1` take the best of a question's answers, the lines that
    quote left out. `cited` is the share whose cited documents have an answer, `hallucinated` the
    share that neither refuse nor say what a shown document has; both over rows that show documents.
    A question without an answer is right where it is refused.

    Args:
        run: folder of the tuned run, or a model's name, which is its own base.
        index: of the documents.
        questions: with their answers.
        how: see `Comparing`.
        raft: folder of the run that was tuned with retrieved documents.

    Raises:
        StropError: a run or a model cannot be used.
    """
    pairs = _drawn(questions, how)
    shown = _shown(index, pairs, how)
    clusters = _clusters(pairs)
    arms: list[_Arm] = []
    for name, opened in _models(run, raft):
        model, tokenizer = opened()
        for condition in CONDITIONS:
            arms.append(_arm(name, condition, model, tokenizer, pairs, shown[condition], how))
        del model
        gc.collect()
    table = {
        arm.name: {
            measure: dataclasses.asdict(estimate(scores, clusters, how.seed))
            for measure, scores in arm.scores.items()
        }
        for arm in arms
    }
    working = [e.status == "shown" for e in shown[WORKS]]
    answer_shown = [
        has_answer(" ".join(hit.text for hit in e.hits), one.answers) and bool(one.answers)
        for e, one in zip(shown[WORKS], pairs, strict=True)
    ]
    return {
        "rows": len(pairs),
        "arms": table,
        "differences": _differences(arms, clusters, how.seed),
        "retrieval": {
            "shown": sum(working) / len(pairs),
            "answer_shown": sum(answer_shown) / len(pairs),
            "k": how.retrieving.k,
            "threshold": how.retrieving.threshold,
        },
    }


def draw_arms(file: Path, result: Mapping[str, Any]) -> None:
    """Write a picture of the share of each arm's answers that have the right one, with intervals."""
    shares = {arm: measures["contains"] for arm, measures in result["arms"].items()}
    title = f"Right answers to {result['rows']:,} questions"
    write_picture(file, shares_plot(title, {}, shares, left=150))


def _drawn(questions: Sequence[QuestionAnswer], how: Comparing) -> list[QuestionAnswer]:
    if how.limit is not None and how.limit < 1:
        raise ConfigError(f"limit is {how.limit}; it must be at least 1")
    if how.limit is None or how.limit >= len(questions):
        return list(questions)
    places = sorted(random.Random(how.seed).sample(range(len(questions)), how.limit))
    return [questions[place] for place in places]


def _clusters(pairs: Sequence[QuestionAnswer]) -> Tensor:
    """Return the number of each question's cluster: those about one passage depend on another."""
    numbers: dict[Any, int] = {}
    keys = (one.context or ("line", i) for i, one in enumerate(pairs))
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def _shown(
    index: Index, pairs: Sequence[QuestionAnswer], how: Comparing
) -> dict[str, list[Evidence]]:
    """Return what each question is shown under each condition."""
    rng = random.Random(how.seed)
    working = []
    for number, one in enumerate(pairs):
        how.progress("searching", number, len(pairs))
        working.append(evidence(lambda: index, one.question, how.retrieving))
    misleading = [_irrelevant(index, one, how.retrieving.k, rng) for one in pairs]
    return {WORKS: working, IRRELEVANT: misleading, DOWN: [Evidence("missing")] * len(pairs)}


def _irrelevant(index: Index, one: QuestionAnswer, k: int, rng: random.Random) -> Evidence:
    """Return passages drawn at random that have no answer to a question."""
    hits: list[Hit] = []
    for number in rng.sample(range(len(index)), min(len(index), 10 * k)):
        chunk = index.chunks[number]
        if len(hits) < k and not has_answer(chunk["text"], one.answers):
            place = (chunk["text"], chunk["source"])
            hits.append(Hit(*place, 0.0, chunk["title"], chunk["document"], number, 0.0, None))
    return Evidence("shown", tuple(hits), (0.0,) * len(hits))


def _models(
    run: Path | str, raft: Path | str | None
) -> list[tuple[str, Callable[[], tuple[Any, Any]]]]:
    """Return the name of each model and what loads it, one at a time."""
    if not Run.is_at(Path(run)):
        models = [("base", lambda: load(str(run)))]
    else:
        tuned = Run.open(Path(run))
        models = [("base", tuned.load_base), ("tuned", tuned.load)]
    if raft is not None:
        models.append(("raft", Run.open(Path(raft)).load))
    return models


def _arm(
    name: str,
    condition: str,
    model: Any,
    tokenizer: Any,
    pairs: Sequence[QuestionAnswer],
    shown: Sequence[Evidence],
    how: Comparing,
) -> _Arm:
    special = tokenizer.all_special_tokens
    prompts = [
        [{"role": "user", "content": prompt_text(one.question, e.shown, special)}]
        for one, e in zip(pairs, shown, strict=True)
    ]
    label = name if condition == DOWN else f"{name} + {condition}"

    def progress(_: str, done: int, total: int) -> None:
        how.progress(f"answering: {label}", done, total)

    settings = Sampling(max_new_tokens=how.max_new_tokens)
    answers = sample(model, tokenizer, prompts, settings, progress=progress)
    parts = [
        parsed(answer.text, e.shown, special) for answer, e in zip(answers, shown, strict=True)
    ]
    rows = [
        measures(one, answer, e.shown) for one, answer, e in zip(pairs, parts, shown, strict=True)
    ]
    return _Arm(label, _scores(rows))


def measures(one: QuestionAnswer, answer: Parsed, shown: Sequence[Shown]) -> dict[str, float]:
    """Return the measures of one answer; those of documents only where some are shown."""
    right = one.answers
    text = answer.answer
    scored = {
        name: max((score(text, reference) for reference in right), default=float(answer.refused))
        for name, score in (
            ("exact_match", exact_match),
            ("contains", contains),
            ("token_f1", token_f1),
        )
    }
    scored["refused"] = float(answer.refused)
    if shown:
        cited = [shown[number - 1].text for number in answer.cited]
        supported = answer.refused or any(has_answer(d.text, [text]) for d in shown if text)
        scored["cited"] = float(bool(right) and any(has_answer(t, right) for t in cited))
        scored["hallucinated"] = float(not supported)
    return scored


def _scores(rows: Sequence[Mapping[str, float]]) -> dict[str, Scores]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    scores = {}
    for name in names:
        places = tuple(i for i, row in enumerate(rows) if name in row)
        sums = torch.tensor([[rows[i][name], 1.0] for i in places], dtype=torch.float64)
        scores[name] = Scores(sums, ratio, share=True, right=name in _SHARES, rows=places)
    return scores


def _differences(
    arms: Sequence[_Arm], clusters: Tensor, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the paired differences that say whether training with retrieval pays."""
    by_name = {arm.name: arm for arm in arms}
    last = "raft" if "raft" in by_name else "tuned" if "tuned" in by_name else "base"
    pairs = [
        (f"{last} + {WORKS}", f"base + {WORKS}"),
        (f"{last} + {WORKS}", "tuned"),
        (f"{last} + {WORKS}", f"tuned + {WORKS}"),
        (f"{last} + {WORKS}", last),
        (f"{last} + {IRRELEVANT}", "tuned"),
        (last, "tuned"),
    ]
    table = {}
    for second, first in pairs:
        if second == first or first not in by_name:
            continue
        table[f"{second} - {first}"] = {
            name: dataclasses.asdict(
                difference(scores, by_name[second].scores[name], clusters, seed)
            )
            for name, scores in by_name[first].scores.items()
            if name in by_name[second].scores
        }
    return table
