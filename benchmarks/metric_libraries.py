"""Measures of evaluations beside those of the libraries that people know.

pip install sacrebleu rouge-score scikit-learn scipy statsmodels; python benchmarks/metric_libraries.py

Prints the largest difference for each measure on shared cases, and where two differ by intent, why.
Writes results/evaluation/metric_libraries.json.
"""

import importlib.metadata
import json
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF
from scipy import stats
from sklearn import metrics as sklearn
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from strop.metrics import text
from strop.metrics.classification import accuracy, macro_f1, of_class
from strop.metrics.intervals import wilson
from strop.metrics.significance import holm, mcnemar, t_quantile, t_two_sided

RESULTS = Path(__file__).parent / "results" / "evaluation" / "metric_libraries.json"
RNG = random.Random(0)
WORDS = "the a of river sea rain, snow wind. one two It's 3.5".split()  # noqa: SIM905
PAIRS = [
    (
        " ".join(RNG.choices(WORDS, k=RNG.randint(1, 14))),
        " ".join(RNG.choices(WORDS, k=RNG.randint(1, 14))),
    )
    for _ in range(500)
]
FOREIGN = [
    ("Привет, мир", "Привет мир"),
    ("我爱北京", "我爱上海"),
    ("नमस्ते दुनिया", "नमस्ते"),
    ("สวัสดีโลก", "สวัสดี"),
]


def chrf_of(pairs: list[tuple[str, str]]) -> float:
    """Return our corpus chrF, from 0 to 100."""
    counts = torch.tensor([text.chrf_counts(*pair) for pair in pairs], dtype=torch.float64)
    return 100 * float(text.chrf(counts.sum(0, keepdim=True)))


def texts() -> Iterator[tuple[str, str, float, str]]:
    """Yield measure, library, largest difference and remark for texts."""
    chrf, rouge = CHRF(), RougeScorer(["rougeL"])
    each = (chrf_of([p]) - chrf.sentence_score(p[0], [p[1]]).score for p in PAIRS + FOREIGN)
    yield "chrF2 of one answer", "sacrebleu", max(map(abs, each)), "any script"
    both = PAIRS + FOREIGN
    theirs = chrf.corpus_score([a for a, _ in both], [[b for _, b in both]]).score
    yield "chrF2 of all answers", "sacrebleu", abs(chrf_of(both) - theirs), "any script"
    each = (text.rouge_l(a, b) - rouge.score(b, a)["rougeL"].fmeasure for a, b in PAIRS)
    yield "ROUGE-L", "rouge-score", max(map(abs, each)), "English"
    each = (text.rouge_l(a, b) - rouge.score(b, a)["rougeL"].fmeasure for a, b in FOREIGN)
    reason = "rouge-score knows a to z and 0 to 9 only: 0 for every answer in another script"
    yield "ROUGE-L, other scripts", "rouge-score", max(map(abs, each)), reason


def labels() -> Iterator[tuple[str, str, float, str]]:
    """Yield the same for labels."""
    gaps: dict[str, list[float]] = {
        "accuracy": [],
        "macro F1": [],
        "precision": [],
        "recall": [],
        "f1": [],
    }
    absent: list[float] = []
    for size in (3, 10, 100, 400):
        for count in (2, 3, 7):
            right = torch.tensor([RNG.randrange(count) for _ in range(size)])
            chosen = torch.tensor(
                [r if RNG.random() < 0.6 else RNG.randrange(count) for r in right.tolist()]
            )
            one, other = right.tolist(), chosen.tolist()
            gaps["accuracy"].append(
                accuracy(right, chosen).total() - sklearn.accuracy_score(one, other)
            )
            ours = macro_f1(right, chosen, count).total()
            gaps["macro F1"].append(ours - sklearn.f1_score(one, other, average="macro"))
            named = range(count + 1)
            absent.append(
                macro_f1(right, chosen, count + 1).total()
                - sklearn.f1_score(one, other, average="macro", labels=[*named], zero_division=0)
            )
            table = sklearn.precision_recall_fscore_support(
                one, other, labels=[*named], zero_division=0
            )
            for label in range(count):
                for name, scores in of_class(right, chosen, label).items():
                    column = ("precision", "recall", "f1").index(name)
                    gaps[name].append(scores.total() - table[column][label])
    for name, values in gaps.items():
        yield name, "scikit-learn", max(map(abs, values)), "labels that occur"
    reason = (
        "a label that no row has and none is answered with: scikit-learn, given its name, counts 0"
    )
    yield "macro F1, absent label", "scikit-learn", max(map(abs, absent)), reason


def tests() -> Iterator[tuple[str, str, float, str]]:
    """Yield the same for intervals and tests."""
    counts = [(h, n) for n in (1, 20, 300, 5000) for h in (0, 1, n // 2, n)]
    gap = max(
        abs(x - y)
        for h, n in counts
        for x, y in zip(wilson(h / n, n), proportion_confint(h, n, method="wilson"), strict=True)
    )
    yield "Wilson's interval", "statsmodels", gap, "all and none right included"
    gap = max(
        abs(mcnemar(b, c) - their_mcnemar([[5, b], [c, 5]], exact=True).pvalue)
        for b in range(40)
        for c in range(40)
        if b + c
    )
    yield "McNemar's exact test", "statsmodels", gap, "every pair up to 39; ties give 1 in both"
    ps = [[RNG.random() for _ in range(n)] for n in (2, 5, 30)]
    gap = max(
        abs(x - y)
        for p in ps
        for x, y in zip(holm(p), multipletests(p, method="holm")[1], strict=True)
    )
    yield "Holm's correction", "statsmodels", gap, "2, 5 and 30 tests"
    degrees = (1, 2, 3, 10, 59, 299, 5000)
    gap = max(abs(t_quantile(d) - stats.t.ppf(0.975, d)) for d in degrees)
    yield "quantile of Student's t", "scipy", gap, "1 to 5,000 degrees of freedom"
    gap = max(
        abs(t_two_sided(x, d) - 2 * stats.t.sf(x, d)) for d in degrees for x in (0.1, 1, 3, 8)
    )
    yield "p of Student's t", "scipy", gap, "1 to 5,000 degrees of freedom"


def main() -> None:
    """Compare every measure and keep the results."""
    warnings.simplefilter("ignore")
    sources: list[Callable[[], Iterator[tuple[str, str, float, str]]]] = [texts, labels, tests]
    rows = [
        {"measure": m, "library": library, "largest_difference": gap, "remark": remark}
        for source in sources
        for m, library, gap, remark in source()
    ]
    for row in rows:
        print(
            f"{row['largest_difference']:.1e}  {row['measure']}, {row['library']}: {row['remark']}"
        )
    names = ("sacrebleu", "rouge-score", "scikit-learn", "scipy", "statsmodels")
    versions = {name: importlib.metadata.version(name) for name in names}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps({"versions": versions, "rows": rows}, indent=2, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
