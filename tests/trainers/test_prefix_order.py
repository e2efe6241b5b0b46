"""Rows that begin alike come into one micro-batch; no optimizer step changes."""

import itertools

import numpy as np
import pytest
import trl
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import strop
from strop.forward.compaction import SHORTEST_PREFIX, compact_batch
from strop.training.prefix_batching import PrefixOrder, arranged, obstacle
from tests.trainers import runs

BATCH, STEPS = 2, 4


def documents(count, questions, *, shared=60):
    """Return questions about some documents, one document after the other in turn."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 90, shared).tolist() for _ in range(count)]
    rows = []
    for _ in range(questions):
        for text in texts:
            ids = text + rng.integers(3, 90, rng.integers(4, 20)).tolist()
            rows.append({"input_ids": ids, "labels": [-100] * (shared + 1) + ids[shared + 1 :]})
    return Dataset.from_list(rows)


def trainer_of(data, folder, out, **given):
    settings = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": STEPS,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "max_steps": -1,
        "num_train_epochs": 2,
    }
    return runs.trainer("sft", folder, out, data=data, **(settings | given))


def rows_of_steps(trainer):
    """Train, and return what was logged, the rows of every micro-batch, and the tokens they need."""
    batches, tokens = [], 0
    collate = trainer.data_collator

    def recorded(rows):
        batches.append([tuple(row["input_ids"]) for row in rows])
        made = collate(rows)
        pieces = compact_batch(made["input_ids"], made["labels"], made["attention_mask"])
        nonlocal tokens
        tokens += sum(len(piece.tokens) for piece in pieces)
        return made

    trainer.data_collator = recorded
    return runs.train(trainer), batches, tokens


def both_ways(make):
    """Return log, micro-batches and tokens, with rows arranged and without."""
    found = []
    for arrange in (True, False):
        trainer = make()
        strop.accelerate(trainer)
        if not arrange:
            vars(trainer).pop("get_train_dataloader", None)
        found.append(rows_of_steps(trainer))
    return found


@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_each_step_keeps_its_rows_and_its_gradient_and_computes_fewer_tokens(
    strategy, tiny_model, tmp_path
):
    data = documents(4, 7)  # 28 rows: an epoch ends with half a step

    def make():
        return trainer_of(data, tiny_model, tmp_path, train_sampling_strategy=strategy)

    (ours, batches, tokens), (plain, before, most) = both_ways(make)
    assert batches != before
    assert [len(b) for b in batches] == [len(b) for b in before]
    epoch = len(batches) // 2
    for start in (*range(0, epoch, STEPS), *range(epoch, 2 * epoch, STEPS)):
        end = min(start + STEPS, epoch if start < epoch else 2 * epoch)
        step, same = (sorted(itertools.chain(*b[start:end])) for b in (batches, before))
        assert step == same
    assert tokens < 0.8 * most
    # Entropy and accuracy are means over micro-batches, whichever rows those have.
    runs.assert_same(ours, plain, 1e-4, without={"entropy", "mean_token_accuracy"})


@pytest.mark.parametrize("shared", [0, SHORTEST_PREFIX - 1])
def test_rows_without_a_common_prefix_stay_in_the_very_same_order(shared, tiny_model, tmp_path):
    data = documents(5, 4, shared=shared)
    (_, batches, _), (_, before, _) = both_ways(lambda: trainer_of(data, tiny_model, tmp_path))
    assert batches == before


def test_a_run_goes_on_from_a_checkpoint_in_the_same_order(tiny_model, tmp_path):
    data = documents(4, 8)
    whole = trainer_of(data, tiny_model, tmp_path, save_strategy="steps", save_steps=3)
    whole.save_model = lambda folder, **_: whole.model.save_pretrained(folder)
    strop.accelerate(whole)
    _, batches, _ = rows_of_steps(whole)
    resumed = trainer_of(data, tiny_model, tmp_path)
    strop.accelerate(resumed)
    seen = []
    collate = resumed.data_collator
    resumed.data_collator = lambda rows: (
        seen.append([tuple(row["input_ids"]) for row in rows]) or collate(rows)
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert seen == batches[3 * STEPS :]


def test_restore_gives_the_data_loader_back(tiny_model, tmp_path):
    trainer = trainer_of(documents(4, 8), tiny_model, tmp_path)
    strop.accelerate(trainer)
    assert isinstance(trainer.get_train_dataloader().get_sampler(), PrefixOrder)
    strop.restore(trainer)
    assert "get_train_dataloader" not in vars(trainer)
    assert not isinstance(trainer.get_train_dataloader().get_sampler(), PrefixOrder)


@pytest.mark.parametrize(
    "settings",
    [{"gradient_accumulation_steps": 1}, {"loss_type": "dft"}],
    ids=["one micro-batch a step", "another loss"],
)
def test_where_nothing_is_to_gain_or_the_loss_is_not_a_sum_the_sampler_stays(
    settings, tiny_model, tmp_path
):
    trainer = trainer_of(documents(4, 8), tiny_model, tmp_path, **settings)
    strop.accelerate(trainer)
    assert not isinstance(trainer.get_train_dataloader().get_sampler(), PrefixOrder)


class OwnLoss(trl.SFTTrainer):
    """Answers with the mean of its micro-batch, as many a subclass does."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        return (loss, outputs) if return_outputs else loss


def mean_of_each(trainer):
    """Make a trainer like that of a model with `accepts_loss_kwargs = False`."""
    trainer.model_accepts_loss_kwargs = False


def own_loss(trainer):
    trainer.__class__ = OwnLoss


def own_count(trainer):
    """Count the tokens of a step some other way."""
    trainer._get_num_items_in_batch = lambda *_: 7


@pytest.mark.filterwarnings("ignore:`return_outputs=True`")
@pytest.mark.parametrize("change", [mean_of_each, own_loss, own_count])
def test_a_loss_that_is_not_known_to_be_one_sum_over_the_step_keeps_the_order(
    change, tiny_model, tmp_path
):
    def make():
        trainer = trainer_of(documents(4, 8), tiny_model, tmp_path, max_steps=2)
        change(trainer)
        return trainer

    (ours, batches, _), (plain, before, _) = both_ways(make)
    assert batches == before
    runs.assert_same(ours, plain, 1e-4)


def test_a_model_that_takes_no_number_of_items_keeps_the_order(tiny_model, tmp_path):
    model = runs.model(tiny_model)
    model.get_base_model().accepts_loss_kwargs = False
    trainer = trainer_of(documents(4, 8), tiny_model, tmp_path, own_model=model)
    assert "divided by its own number" in obstacle(trainer)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("aux_loss_enabled", True, "router loss"),
        ("label_smoother", object(), "made of logits"),
        ("compute_loss_func", len, "made of logits"),
        ("compute_loss", len, "compute_loss is not TRL's"),
        ("training_step", len, "training_step is not TRL's"),
    ],
)
def test_each_reason_against_another_order_is_named(name, value, text, tiny_model, tmp_path):
    trainer = trainer_of(documents(4, 8), tiny_model, tmp_path)
    assert obstacle(trainer) is None
    setattr(trainer, name, value)
    assert text in obstacle(trainer)


def test_a_batch_that_memory_halved_keeps_each_row_in_its_step(tiny_model, tmp_path):
    def make():
        trainer = trainer_of(
            documents(4, 8),
            tiny_model,
            tmp_path,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            auto_find_batch_size=True,
            max_steps=3,
        )
        collate = trainer.data_collator

        def too_large(rows):
            if len(rows) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            return collate(rows)

        trainer.data_collator = too_large
        return trainer

    (ours, batches, _), (plain, before, _) = both_ways(make)
    first = next(i for i, batch in enumerate(batches) if len(batch) == 2)
    for start in range(first, first + 6, 2):
        step, same = (sorted(itertools.chain(*b[start : start + 2])) for b in (batches, before))
        assert step == same
    runs.assert_same(ours, plain, 1e-4, without={"entropy", "mean_token_accuracy"})


@st.composite
def windows(draw):
    """Return the size of a micro-batch, and for each row of a window whose prefix it begins with."""
    batch, steps = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = batch * steps
    return batch, draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))


@settings(max_examples=100, deadline=None)
@given(windows())
def test_every_row_is_there_once_and_no_prefix_comes_more_often_than_before(window):
    batch, owners = window
    rows = [np.array([owner] * SHORTEST_PREFIX + [9, i]) for i, owner in enumerate(owners)]
    order = arranged(rows, batch)
    assert sorted(order) == [*range(len(rows))]

    def prefixes(order):
        return len({(at // batch, owners[i]) for at, i in enumerate(order)})

    assert prefixes(order) <= prefixes(range(len(rows)))
    if prefixes(order) == prefixes(range(len(rows))):
        assert order == [*range(len(rows))]
    if all(owners.count(owner) == batch for owner in owners):
        assert prefixes(order) == len(set(owners))
