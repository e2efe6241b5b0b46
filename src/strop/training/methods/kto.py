"""Training on single answers that are marked as desirable or not: KTO (arXiv:2402.01306)."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from strop.core.errors import ConfigError
from strop.core.tokens import IGNORE_INDEX
from strop.data import Example, Row, Supervision, encode_all
from strop.data.rows import BrokenRowsError, Fault
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.dataset import TrainingData, length_for, shown_rows
from strop.training.methods.adapted import adapted, padding
from strop.training.methods.compared import check_reasoning, late_answer, split_with_facts
from strop.training.trainer import RunTrainer

if TYPE_CHECKING:
    import datasets

_BALANCED = (1.0, 4 / 3)
"""Weight of all desirable answers by that of all others, from Eq. (8) of the paper."""


def fields(settings: Settings) -> dict[str, Any]:
    """Return what KTOConfig is given besides the settings: answers come as tokens."""
    random_order = {"train_sampling_strategy": "random"}
    given = "train_sampling_strategy" in settings.trainer
    return {"max_length": None, "beta": settings.beta, **({} if given else random_order)}


@dataclasses.dataclass(frozen=True, slots=True)
class MarkedAnswer:
    """An answer to a prompt as token ids, with its mark."""

    prompt: list[int]
    completion: list[int]
    desirable: bool
    line: int
    """The line of its row."""
    cut: int = 0
    """Number of tokens cut off at the end to meet `max_length`."""

    @property
    def answers(self) -> tuple[list[int], ...]:
        """The one."""
        return (self.completion,)

    @property
    def marks(self) -> tuple[int, ...]:
        """1 if it is desirable."""
        return (int(self.desirable),)


@dataclasses.dataclass(frozen=True, slots=True)
class MarkedAnswers(TrainingData[MarkedAnswer]):
    """Marked answers of a run as tokens."""

    @property
    def token_ids(self) -> list[list[int]]:
        """Tokens of each prompt with its answer."""
        return [row.prompt + row.completion for row in self.train]

    @property
    def labels(self) -> list[list[int]]:
        """Labels of these."""
        return [[IGNORE_INDEX] * len(row.prompt) + row.completion for row in self.train]

    @property
    def texts(self) -> list[list[int]]:
        """Sequences that the model learns to write; all, where every answer is undesirable."""
        desirable = [row.prompt + row.completion for row in self.train if row.desirable]
        return desirable or self.token_ids

    @property
    def sequences(self) -> Iterable[list[int]]:
        """Tokens of every row."""
        return (row.prompt + row.completion for row in (*self.train, *self.held_out))

    def table(self, rows: list[MarkedAnswer]) -> "datasets.Dataset":
        """Return rows as TRL's collator takes them."""
        import datasets

        return datasets.Dataset.from_dict(
            {
                "prompt_ids": [row.prompt for row in rows],
                "completion_ids": [row.completion for row in rows],
                "label": [row.desirable for row in rows],
            }
        )


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> MarkedAnswers:
    """Return the marked answers as tokens; of a conversation the last answer is the marked one.

    Args:
        rows: read and split; each has a label.
        tokenizer: the model's.
        settings: how long rows may be, whether the end token is learned.
        limit: most tokens that the model takes; None has no limit.

    Raises:
        ConfigError: a setting says what of an answer is learned, which marked answers cannot; or a
            step has one row only.
        DataError: rows without a label, or none within max_length; all listed.
    """
    check_reasoning(settings)
    if settings.batch_size < 2:
        raise ConfigError(
            "batch_size is 1; method kto estimates a divergence from answers to other prompts of the "
            "batch, so it must be at least 2"
        )
    if unmarked := [Fault(row.line, _unmarked(row)) for row in rows.both if row.label is None]:
        raise BrokenRowsError(
            rows.source,
            unmarked,
            len(rows.both),
            "  method kto learns from columns prompt, completion and label (true or false); method "
            "dpo learns from pairs, method sft imitates single answers",
        )
    supervision = Supervision("last", settings.end_token)
    whole = encode_all(rows.both, tokenizer, supervision=supervision)
    lengths = [len(example.ids) for example in whole]
    max_length = settings.max_length or length_for(lengths, limit)
    fitted = [
        _marked(example, bool(row.label), max_length)
        for example, row in zip(whole, rows.both, strict=True)
    ]
    train, held_out, facts = split_with_facts(rows, whole, fitted, max(lengths), max_length)
    facts["notes"].append(_note(train, settings))
    samples = shown_rows(rows.train, tokenizer, max_length, supervision)
    return MarkedAnswers(train, held_out, facts, samples)


def _unmarked(row: Row) -> str:
    return (
        "it is a pair of answers"
        if row.rejected
        else "nothing marks its answer as desirable or not"
    )


def _note(train: Sequence[MarkedAnswer], settings: Settings) -> str:
    good = sum(row.desirable for row in train)
    bad = len(train) - good
    note = (
        f"method kto: {good:,} desirable answers become likelier, {bad:,} undesirable ones less "
        "likely; --method sft imitates the desirable ones"
    )
    if not good or not bad:
        return f"{note}. All answers are of one kind, so the model sees nothing to tell them from"
    weights = (settings.trainer.get(f"{name}_weight", 1.0) for name in ("desirable", "undesirable"))
    ratio = next(weights) * good / (next(weights) * bad)
    least, most = _BALANCED
    if least <= ratio <= most:
        return note
    name, weight = ("undesirable", good / bad) if ratio > most else ("desirable", bad / good)
    return f"{note}. They are {good / bad:.2g} to 1: --trainer {name}_weight={weight:.3g} balances them"


def _marked(example: Example, desirable: bool, max_length: int) -> MarkedAnswer | Fault:
    labelled = [i for i, label in enumerate(example.labels) if label != IGNORE_INDEX]
    begin, end = labelled[0], labelled[-1] + 1
    if begin >= max_length:
        return late_answer(example.line, max_length)
    completion = example.ids[begin : min(end, max_length)]
    return MarkedAnswer(
        example.ids[:begin], completion, desirable, example.line, max(0, end - max_length)
    )


def build(
    settings: Settings,
    args: KTOConfig,
    model: Any,
    tokenizer: Any,
    data: MarkedAnswers,
    callbacks: list[TrainerCallback],
) -> "Trainer":
    """Return a trainer for `model`, which gets a new adapter; arguments are those of `adapted`."""
    collator = _Rotated(padding(tokenizer), max_length=data.facts["max_length"])
    return adapted(
        Trainer, settings, args, model, tokenizer, data, callbacks, data_collator=collator
    )


class _Rotated(DataCollatorForUnpairedPreference):
    """TRL's collator; each prompt meets the answer of the row before it, whose KL is estimated.

    TRL pairs them before the rows are shuffled, so that it must not shuffle them.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        before = [examples[-1], *examples[:-1]]
        return super().torch_call(
            [
                {**row, "KL_completion_ids": other["completion_ids"]}
                for row, other in zip(examples, before, strict=True)
            ]
        )


class Trainer(RunTrainer, KTOTrainer):
    """TRL's KTOTrainer on answers that are tokens already, in any order."""

    def __init__(self, model: Any, args: KTOConfig, **named: Any) -> None:
        """Take what TRL's trainer takes, and any order of the rows: the collator pairs them."""
        order = args.train_sampling_strategy
        args.train_sampling_strategy = "sequential"
        super().__init__(model, args=args, **named)
        args.train_sampling_strategy = order

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Return the rows as they are: strop encoded them."""
        return dataset
