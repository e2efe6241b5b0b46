"""Bad data and damaged models, as a real trainer meets them: named, or harmless."""

import pytest
import torch
from datasets import Dataset

import strop
from strop.core.errors import ConfigError, DataError
from tests.trainers import runs

PREPARED = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}


def trainer_of(rows, folder, out, *, own_model=None, **settings):
    """Return an accelerated SFT trainer on rows of (token ids, labels), in this order."""
    data = Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in rows])
    settings = {"train_sampling_strategy": "sequential", "max_steps": 1} | PREPARED | settings
    return runs.trainer("sft", folder, out, own_model=own_model, data=data, **settings)


def counting(n, *, asked=1):
    """Return a row of n tokens whose last ones carry loss."""
    ids = [3 + i % 90 for i in range(n)]
    return ids, [-100] * asked + ids[asked:]


def fails(trainer, match, **settings):
    strop.accelerate(trainer, **settings)
    with pytest.raises(DataError, match=match):
        runs.train(trainer)


@pytest.mark.parametrize("activations", ["keep", "checkpoint"])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model.layers.1.mlp.down_proj.base_layer.weight", "load them again"),
        ("model.layers.0.self_attn.q_proj.lora_B.default.weight", "lower learning rate"),
        ("model.norm.weight", "load them again"),
        ("lm_head.weight", "load them again"),
    ],
)
def test_a_weight_that_is_no_number_is_named(name, remedy, activations, tiny_model, tmp_path):
    model = runs.model(tiny_model)
    weight = model.get_base_model().get_parameter(name)
    place = [weight.shape[0] // 2] + [1] * (weight.ndim - 1)
    weight.data[tuple(place)] = float("nan")
    trainer = trainer_of([counting(20)] * 4, tiny_model, tmp_path, own_model=model)
    spoken = name.replace(".", r"\.")
    at = ", ".join(map(str, place))
    fails(trainer, rf"{spoken} holds nan at \[{at}\]: .*{remedy}", activations=activations)


@pytest.mark.parametrize("budget", [None, 16])
def test_a_label_beyond_the_vocabulary_is_named_with_its_row(budget, tiny_model, tmp_path):
    ids, labels = counting(20)
    rows = [counting(30), counting(9), (ids, [*labels[:7], 1234, *labels[8:]]), counting(4)]
    match = r"row 2 has the label 1234 at token 7; labels are -100 or from 0 to 258"
    fails(trainer_of(rows, tiny_model, tmp_path), match, micro_batch_tokens=budget)


def test_a_negative_label_that_is_not_the_ignored_one_is_named(tiny_model, tmp_path):
    ids, labels = counting(20)
    rows = [counting(5), (ids, [*labels[:-1], -1])]
    fails(trainer_of(rows, tiny_model, tmp_path), r"row 1 has the label -1 at token 19")


def test_a_token_beyond_the_vocabulary_is_named(tiny_model, tmp_path):
    ids, labels = counting(20)
    rows = [counting(5), ([*ids[:3], 777, *ids[4:]], [-100] * 10 + labels[10:])]
    fails(trainer_of(rows, tiny_model, tmp_path), r"row 1 has the token id 777 at token 3")


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_row_beyond_the_context_trains_where_positions_are_rotary(packed, tiny_model, tmp_path):
    rows = [counting(60), counting(300), counting(9), counting(80)]  # the context is 256
    trainer = trainer_of(rows, tiny_model, tmp_path, padding_free=packed)
    strop.accelerate(trainer)
    assert runs.train(trainer)[0]["grad_norm"] > 0


def test_packed_rows_may_be_longer_than_the_context_together(tiny_model, tmp_path):
    trainer = trainer_of([counting(200)] * 4, tiny_model, tmp_path, padding_free=True)
    strop.accelerate(trainer)
    assert runs.train(trainer)[0]["grad_norm"] > 0


@pytest.mark.parametrize(
    "shape",
    [
        [counting(1)] * 4,
        [counting(1), counting(2), counting(30), counting(1, asked=0)],
        [counting(20, asked=20)] * 4,
        [counting(20, asked=20), counting(12), counting(20, asked=20), counting(5)],
    ],
    ids=["one token", "one token beside more", "no label", "labels in half of the rows"],
)
@pytest.mark.parametrize(
    "batch", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_rows_with_little_or_nothing_to_learn_are_harmless(shape, batch, tiny_model, tmp_path):
    def make():
        split = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 4 // batch,
            "max_steps": 2,
        }
        return trainer_of(shape * 2, tiny_model, tmp_path, **split)

    for budget in (None, 8):
        runs.compare(make, micro_batch_tokens=budget)


@pytest.mark.parametrize("activations", ["keep", "checkpoint"])
def test_a_batch_of_padding_only_gives_a_loss_of_zero_with_a_gradient_of_zero(
    activations, tiny_model, tmp_path
):
    trainer = trainer_of([counting(20)] * 4, tiny_model, tmp_path)
    strop.accelerate(trainer, activations=activations, micro_batch_tokens=16)
    empty = torch.zeros(3, 8, dtype=torch.int64)
    batch = {"input_ids": empty, "attention_mask": empty, "labels": torch.full_like(empty, -100)}
    loss = trainer.compute_loss(trainer.model.train(), batch)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_the_former_name_of_activations_is_taken_in_its_place(tiny_model, tmp_path):
    trainer = trainer_of([counting(20)], tiny_model, tmp_path)
    with pytest.raises(
        ConfigError, match="activations is keep and policy, its former name, offload"
    ):
        strop.accelerate(trainer, "keep", policy="offload")
    strop.accelerate(trainer, policy="checkpoint")
    (compact,) = [c.compact for c in trainer.callback_handler.callbacks if hasattr(c, "compact")]
    assert compact.backbone.activations == "checkpoint"
