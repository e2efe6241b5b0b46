"""Distillation: TRL's loss from hidden rows, stored tokens, another vocabulary, drawn answers."""

import json

import pytest
import torch

import strop
from strop.core.errors import ConfigError, DataError
from strop.ops.linear_log_prob.divergence import linear_divergence
from strop.planning.settings import Settings
from strop.training.methods import distill
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import (
    QUICK,
    assert_same_adapter,
    resumed_copy,
    save_model,
    sums,
)

TAUGHT = {**QUICK, "method": "distill", "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def taught(tmp_path_factory, tiny_model):
    """Return a run to learn from, which answers y to everything."""
    rows = [{"prompt": row["messages"][0]["content"], "completion": "y"} for row in sums(20)]
    strong = {"max_steps": 30, "learning_rate": 3e-2, "rank": 32, "alpha": 128, "bits": 16}
    folder = tmp_path_factory.mktemp("teacher")
    return strop.train(rows, model=str(tiny_model), out=folder / "run", **(QUICK | strong))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_divergence_is_the_one_of_trl(beta):
    rng = torch.Generator().manual_seed(0)
    student, weight, teacher, of_teacher = (
        torch.randn(shape, generator=rng, dtype=torch.float64)
        for shape in ((12, 8), (50, 8), (12, 6), (50, 6))
    )
    theirs = distill.Trainer.generalized_jsd_loss(
        student @ weight.T, teacher @ of_teacher.T, beta=beta, reduction="sum"
    )
    ours = linear_divergence(student, weight, teacher, of_teacher, beta=beta).sum()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"beta": 0.5},
        {"beta": 0.0, "top_k": 40},
        # a row at a time, so that both ways draw the same answers
        {"lmbda": 1.0, "max_completion_length": 8, "batch_size": 1},
    ],
    ids=str,
)
def test_a_teacher_is_learned_the_same_with_and_without_acceleration(
    tmp_path, tiny_model, taught, more
):
    settings = {**TAUGHT, "max_steps": 8, "teacher": str(taught.path), **more}
    ours = trained_both_ways(sums(16), tiny_model, tmp_path, **settings)
    held_out = [line["held_out_loss"] for line in ours.log if "held_out_loss" in line]
    assert held_out[-1] < held_out[0]


@pytest.mark.slow
def test_a_student_resumes_to_the_same_bytes_and_is_exported(tmp_path, tiny_model, taught):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sums(16)))
    settings = {**TAUGHT, "max_steps": 4, "save_every": 2, "lmbda": 0.5, "max_completion_length": 8}
    whole = strop.train(
        file, model=str(tiny_model), out=tmp_path / "a", teacher=str(taught.path), **settings
    )
    resumed = resumed_copy(whole, tmp_path / "half", 4)
    assert_same_adapter(whole, resumed)
    (exported,) = strop.export(resumed, "merged")
    assert exported.certificate.passed
    assert whole.settings["beta"] == 0.5


@pytest.mark.slow
def test_a_teacher_of_another_vocabulary_gives_its_answers(tmp_path, tiny_model, taught):
    other = save_model("llama", tmp_path / "other")
    given = {"model": str(other), "teacher": str(taught.path), **TAUGHT}
    with pytest.raises(ConfigError, match="another vocabulary"):
        strop.train(sums(12), out=tmp_path / "k", top_k=4, **given)
    with pytest.raises(DataError, match="within max_completion_length 1; raise it"):
        strop.train(sums(12), out=tmp_path / "b", max_completion_length=1, **given)
    run = strop.train(sums(12), out=tmp_path / "c", max_completion_length=20, **given)
    assert run.finished
    assert "its answers are imitated" in " ".join(run.record["data"]["notes"])
    texts = ["".join(piece["text"] for piece in row) for row in run.record["samples"]]
    assert all("assistant\ny" in text for text in texts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "distill"}, "needs a teacher"),
        ({"method": "sft", "teacher": "m"}, "teacher is of method distill"),
        ({"teacher": "m", "beta": 2.0}, "from 0, KL"),
        ({"teacher": "m", "lmbda": 1.5}, "a share of steps"),
        ({"teacher": "m", "lmbda": 0.5, "top_k": 8}, "leave one of them out"),
    ],
)
def test_settings_that_no_teacher_can_serve_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


def test_a_teacher_that_is_not_there_is_named_at_once(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match="no-such-model"):
        strop.train(
            sums(8),
            model=str(tiny_model),
            out=tmp_path / "a",
            teacher=str(tmp_path / "no-such-model"),
        )
