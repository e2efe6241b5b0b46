"""Preference training: of each pair of answers the better one becomes likelier than the worse one.

DPO (arXiv:2305.18290) on TRL's trainer; IPO (arXiv:2310.12036) is another loss of the same.
"""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trl import DPOTrainer

from strop.core.tokens import IGNORE_INDEX, common_prefix
from strop.data import Example, Supervision, encode_all
from strop.data.rows import BrokenRowsError, Fault
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.dataset import TrainingData, length_for, shown_rows
from strop.training.methods.compared import check_reasoning, late_answer, split_with_facts
from strop.training.trainer import RunTrainer

if TYPE_CHECKING:
    import datasets


def fields(settings: Settings) -> dict[str, Any]:
    """Return what DPOConfig is given besides the settings: pairs come as tokens."""
    loss = {"loss_type": ["ipo"]} if settings.method == "ipo" else {}
    return {"max_length": None, "beta": settings.beta, **loss}


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    line: int
    """The line of its row."""
    cut: int = 0
    """Number of tokens cut off at the ends of both answers to meet `max_length`."""

    @property
    def marks(self) -> tuple[int, ...]:
        """Nothing."""
        return ()

    @property
    def answers(self) -> tuple[list[int], ...]:
        """Both."""
        return self.chosen, self.rejected


@dataclasses.dataclass(frozen=True, slots=True)
class PairDataset(TrainingData[Pair]):
    """Pairs of a run as tokens; the prompt of a pair is computed once for both its answers."""

    @property
    def token_ids(self) -> list[list[int]]:
        """Tokens computed for each pair: prompt, chosen answer, rejected answer."""
        return [pair.prompt + pair.chosen + pair.rejected for pair in self.train]

    @property
    def labels(self) -> list[list[int]]:
        """Labels of these."""
        return [
            [IGNORE_INDEX] * len(pair.prompt) + pair.chosen + pair.rejected for pair in self.train
        ]

    @property
    def texts(self) -> list[list[int]]:
        """The sequences that the model learns to write: each prompt with its chosen answer."""
        return [pair.prompt + pair.chosen for pair in self.train]

    @property
    def sequences(self) -> Iterable[list[int]]:
        """Every sequence of tokens, of both parts."""
        for pair in (*self.train, *self.held_out):
            yield pair.prompt + pair.chosen
            yield pair.rejected

    def table(self, rows: list[Pair]) -> "datasets.Dataset":
        """Return pairs as TRL's collator takes them."""
        import datasets

        return datasets.Dataset.from_dict(
            {
                "prompt_ids": [pair.prompt for pair in rows],
                "chosen_ids": [pair.chosen for pair in rows],
                "rejected_ids": [pair.rejected for pair in rows],
            }
        )


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> PairDataset:
    """Return the pairs as tokens; each prompt with its answer is cut at its end to max_length.

    Args:
        rows: read and split; each has two answers.
        tokenizer: the model's.
        settings: how long rows may be, whether the end token is learned.
        limit: most tokens that the model takes; None has no limit.

    Raises:
        ConfigError: a setting says what of an answer is learned, which pairs cannot.
        DataError: rows that have no two different answers, or none within max_length; all listed.
    """
    check_reasoning(settings)
    single = [
        Fault(r.line, "it has one answer, and a pair needs two")
        for r in rows.both
        if r.rejected is None
    ]
    if single:
        raise BrokenRowsError(
            rows.source,
            single,
            len(rows.both),
            f"  method {settings.method} learns from columns "
            "prompt, chosen and rejected; method sft imitates single answers",
        )
    supervision = Supervision(end_token=settings.end_token)
    better = encode_all(rows.both, tokenizer, supervision=supervision)
    worse = encode_all(
        [dataclasses.replace(row, messages=row.rejected) for row in rows.both],
        tokenizer,
        supervision=supervision,
    )
    whole = [_paired(a, b) for a, b in zip(better, worse, strict=True)]
    lengths = [len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in whole]
    max_length = settings.max_length or length_for(lengths, limit)
    fitted = [_cut(pair, max_length) for pair in whole]
    train, held_out, facts = split_with_facts(rows, better, fitted, max(lengths), max_length)
    facts["notes"].append(_note(settings))
    samples = shown_rows(rows.train, tokenizer, max_length, supervision)
    return PairDataset(train, held_out, facts, samples)


def _note(settings: Settings) -> str:
    return (
        f"method {settings.method}: of each pair the chosen answer becomes likelier than the rejected "
        "one; --method sft imitates the chosen answers"
    )


def _paired(better: Example, worse: Example) -> Pair:
    """Return the pair: the prompt ends where the first answer that differs begins."""
    begin = common_prefix(better.ids, worse.ids)
    begin = min(_answer_begin(better, begin), _answer_begin(worse, begin))
    chosen, rejected = (e.ids[begin : _answer_end(e)] for e in (better, worse))
    return Pair(better.ids[:begin], chosen, rejected, better.line)


def _answer_begin(example: Example, token: int) -> int:
    """Return the first token of the answer that a token belongs to."""
    while token and example.labels[token - 1] != IGNORE_INDEX:
        token -= 1
    return token


def _answer_end(example: Example) -> int:
    """Return the number of tokens up to the last that is supervised."""
    end = len(example.labels)
    while example.labels[end - 1] == IGNORE_INDEX:
        end -= 1
    return end


def _cut(pair: Pair, max_length: int) -> Pair | Fault:
    room = max_length - len(pair.prompt)
    if room < 1:
        return late_answer(pair.line, max_length)
    chosen, rejected = pair.chosen[:room], pair.rejected[:room]
    if chosen == rejected:
        return Fault(
            pair.line,
            f"both answers are equal up to token {max_length}, where they are cut; raise max_length",
            "equal_pair",
        )
    cut = len(pair.chosen) + len(pair.rejected) - len(chosen) - len(rejected)
    return Pair(pair.prompt, chosen, rejected, pair.line, cut)


class Trainer(RunTrainer, DPOTrainer):
    """TRL's DPOTrainer on pairs that are tokens already."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Return the pairs as they are: strop encoded them."""
        return dataset
