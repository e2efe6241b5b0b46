"""Continued pre-training: whole texts in blocks, each token predicted once, none of another text seen."""

import itertools
import json
import random
from collections import Counter

import pytest
from transformers import AutoTokenizer

import strop
from strop.cli.flags import joined
from strop.core.errors import ConfigError, DataError
from strop.core.tokens import IGNORE_INDEX
from strop.data.reading.columns import columns_of
from strop.data.texts import read_texts
from strop.evaluation import evaluate
from strop.planning.settings import Settings
from strop.runs.run_data import read_and_split
from strop.training.text import encode as encoding
from strop.training.text.packing import best_fit, pieces
from tests.tiny.saved import QUICK, assert_same_adapter, in_float32, resumed_copy

TEXT = {**QUICK, "max_length": 48}


@pytest.fixture
def texts(tmp_path):
    folder, draw = tmp_path / "texts", random.Random(0)
    folder.mkdir()
    for i in range(12):
        words = draw.choices("north south sea hill rain snow wind".split(), k=draw.choice([4, 60]))  # noqa: SIM905
        (folder / f"{i}.{draw.choice(['txt', 'md'])}").write_text(" ".join(words))
    return folder


@pytest.fixture
def earlier(tmp_path):
    file = tmp_path / "earlier.jsonl"
    file.write_text("".join(json.dumps({"text": f"long ago {i} " * 5}) + "\n" for i in range(30)))
    return file


def encoded(source, tokenizer, **settings):
    settings = Settings(method="text", **settings)
    split = read_and_split(source, columns_of(settings.plain()), settings)
    return encoding.encode(split, tokenizer, settings, None)


@pytest.mark.parametrize("room", [2, 7, 48, 4000])
def test_every_token_of_a_text_but_its_first_is_predicted_once(texts, tiny_model, room):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    data = encoded(str(texts), tokenizer, max_length=room, held_out=0)
    whole = Counter()
    for row in read_texts(str(texts), columns_of({})):
        ids = [*tokenizer(row.text)["input_ids"], tokenizer.eos_token_id]
        whole.update(itertools.pairwise(ids))
    predicted = Counter()
    for block in data.train:
        assert len(block.ids) == sum(block.lengths) <= room
        labels = block.labels
        for i in range(1, len(labels)):
            if labels[i] != IGNORE_INDEX:
                predicted[int(block.ids[i - 1]), int(labels[i])] += 1
    assert predicted == whole


def test_blocks_have_every_piece_once_and_are_full():
    draw = random.Random(1)
    sizes = [draw.randint(2, 100) for _ in range(2000)]
    blocks = best_fit(sizes, 100)
    assert sorted(i for block in blocks for i in block) == list(range(2000))
    assert max(sum(sizes[i] for i in block) for block in blocks) <= 100
    assert len(blocks) <= 11 / 9 * sum(sizes) / 100 + 1  # what the algorithm guarantees
    assert len(pieces([0, 5], [1, 1], 8)) == 0


@pytest.mark.slow
def test_training_is_the_same_with_and_without_acceleration(tmp_path, texts, tiny_model):
    ours, plain = (
        strop.train(
            texts,
            **in_float32(tiny_model),
            out=tmp_path / str(accelerate),
            accelerate=accelerate,
            **{**TEXT, "max_steps": 20, "learning_rate": 1e-3},
        )
        for accelerate in (True, False)
    )
    assert ours.settings["method"] == "text"
    assert len(ours.log) == len(plain.log)
    for line, reference in zip(ours.log, plain.log, strict=True):
        assert line.keys() == reference.keys()
        for name in line.keys() - {"seconds", "memory", "disk", "accuracy", "epoch"}:
            assert line[name] == pytest.approx(reference[name], rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bytes_and_is_exported(tmp_path, texts, earlier, tiny_model):
    settings = {**TEXT, "max_steps": 4, "save_every": 2, "model": str(tiny_model)}
    whole = strop.train(texts, out=tmp_path / "whole", replay=f"{earlier}:0.3", **settings)
    resumed = resumed_copy(whole, tmp_path / "half", 4)
    assert_same_adapter(whole, resumed)
    (exported,) = strop.export(resumed, "merged")
    assert exported.certificate.passed
    assert evaluate(resumed).rows == 2


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_earlier_texts_make_their_share_of_the_tokens(texts, earlier, tiny_model, share):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    alone = encoded(str(texts), tokenizer)
    mixed = encoded(str(texts), tokenizer, replay=f"{earlier}:{share}")
    added = 1 - alone.facts["tokens"] / mixed.facts["tokens"]
    assert added == pytest.approx(share, abs=0.05)
    assert "earlier.jsonl are mixed in" in mixed.facts["notes"][-1]
    assert [b.ids.tolist() for b in mixed.held_out] == [b.ids.tolist() for b in alone.held_out]
    assert mixed.facts["sha256"] != alone.facts["sha256"]


def test_equal_texts_are_held_out_together_and_texts_are_read_again(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {i % 5}"}) + "\n" for i in range(20)))
    settings = Settings(held_out=8, method="text")
    split = read_and_split(str(file), columns_of({}), settings)
    held_out = {row.text for row in split.held_out}
    assert len(split.held_out) == 8
    assert len(held_out) == 2
    assert not held_out & {row.text for row in split.train}
    assert [row.line for row in split.texts] == list(range(1, 21))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay": "old.txt"}, "write a file and its share"),
        ({"replay": "old.txt:0.1", "method": "sft"}, "replay is of method text"),
        ({"reasoning": False}, "method text learns texts whole"),
        ({"trainer": {"loss_type": "dft"}}, "it must be nll"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, texts, tiny_model, settings, message):
    given = {"method": "text", "model": str(tiny_model), "out": tmp_path / "r", **settings}
    (tmp_path / "old.txt").write_text("once")
    if "replay" in given:
        given["replay"] = str(tmp_path / given["replay"])
    with pytest.raises((ConfigError, DataError), match=message):
        strop.train(texts, **given)


def test_conversations_are_no_texts(tmp_path, tiny_model):
    rows = [{"prompt": "2?", "completion": "2"}] * 4
    with pytest.raises(DataError, match="--method sft takes this data"):
        strop.train(rows, method="text", model=str(tiny_model), out=tmp_path / "r")


def test_a_file_and_its_share_may_be_two_words():
    assert joined(["a", "--replay", "b.txt", "0.1", "--out", "r"]) == [
        *("a", "--replay", "b.txt:0.1", "--out", "r")
    ]
    assert joined(["--replay", "b.txt:0.1", "c.txt"]) == ["--replay", "b.txt:0.1", "c.txt"]
