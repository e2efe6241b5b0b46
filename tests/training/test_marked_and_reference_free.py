"""KTO, ORPO and SimPO: the losses of TRL's trainers on its own tokens, resumed to the same bytes."""

import json

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer

import strop
from strop.core.errors import ConfigError, DataError
from strop.data.reading.columns import columns_of
from strop.planning.settings import Settings
from strop.runs.run_data import read_and_split
from strop.training.methods import kto
from strop.training.trainer import RunTrainer
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import QUICK, assert_same_adapter, resumed_copy
from tests.training.test_preferences import pairs


class Plain(RunTrainer, KTOTrainer):
    """TRL's trainer, which reports nothing to the hub."""


def marked(count):
    rows = []
    for pair in pairs(count):
        rows.append({"prompt": pair["prompt"], "completion": pair["chosen"], "label": True})
        rows.append({"prompt": pair["prompt"], "completion": pair["rejected"], "label": False})
    return rows


def rows_for(method):
    return marked(10) if method == "kto" else pairs(20)


def test_marked_answers_have_the_tokens_that_trl_gives_them(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    settings = Settings(held_out=0)
    split = read_and_split(marked(3), columns_of(settings.plain()), settings)
    ours = kto.encode(split, tokenizer, settings, None).train
    trainer = Plain(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        args=KTOConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(marked(3)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2),
    )
    for answer, row in zip(ours, trainer.train_dataset, strict=True):
        assert answer.prompt == row["prompt_ids"]
        assert answer.completion == row["completion_ids"][: len(answer.completion)]
        # TRL also learns what its template writes behind the end of the answer.
        assert not tokenizer.decode(row["completion_ids"][len(answer.completion) :]).strip()
        assert answer.desirable == row["label"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kto", "orpo", "simpo"])
def test_a_method_is_the_same_with_and_without_acceleration(tmp_path, tiny_model, method):
    settings = {**QUICK, "max_steps": 20, "learning_rate": 1e-3, "method": method}
    ours = trained_both_ways(rows_for(method), tiny_model, tmp_path, **settings)
    held_out = [line["held_out_loss"] for line in ours.log if "held_out_loss" in line]
    assert held_out[-1] < held_out[0] or method == "kto"  # both held-out answers are of one prompt
    assert ours.log[-2]["loss"] < ours.log[1]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["orpo", "simpo"])
def test_all_weights_are_trained_the_same_with_and_without_acceleration(
    tmp_path, tiny_model, method
):
    settings = {**QUICK, "max_steps": 8, "learning_rate": 1e-3, "method": method}
    ours = trained_both_ways(pairs(20), tiny_model, tmp_path, adapter="none", **settings)
    assert ours.log[-2]["loss"] < ours.log[1]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kto", "orpo", "simpo"])
def test_a_run_resumes_to_the_same_bytes_and_is_exported(tmp_path, tiny_model, method):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_for(method)))
    settings = {**QUICK, "max_steps": 4, "save_every": 2, "model": str(tiny_model)}
    whole = strop.train(file, out=tmp_path / "whole", **settings, method=method)
    resumed = resumed_copy(whole, tmp_path / "half", 4)
    assert_same_adapter(whole, resumed)
    (exported,) = strop.export(resumed, "merged")
    assert exported.certificate.passed


@pytest.mark.slow
def test_marks_of_both_kinds_are_learned_by_kto_and_its_balance_is_said(tmp_path, tiny_model):
    quick = {"model": str(tiny_model), "max_steps": 1, "rank": 2, "quiet": True, "batch_size": 4}
    run = strop.train([*marked(4), *marked(8)[8::2]], out=tmp_path / "auto", **quick)
    assert run.settings["method"] == "kto"
    assert run.settings["learning_rate"] == 3e-4
    notes = " ".join(run.record["data"]["notes"])
    assert "desirable answers become likelier" in notes
    assert "--trainer undesirable_weight=" in notes
    simpo = strop.train(pairs(4), out=tmp_path / "simpo", method="simpo", **quick)
    assert simpo.settings["beta"] == 2.0


@pytest.mark.parametrize(
    ("method", "rows", "settings", "message"),
    [
        ("kto", pairs(4), {}, "it is a pair of answers"),
        ("kto", [{"prompt": "2?", "completion": "4"}] * 4, {}, "nothing marks its answer"),
        ("kto", marked(4), {"batch_size": 1}, "batch_size is 1; method kto"),
        ("orpo", marked(4), {}, "it has one answer"),
        ("simpo", pairs(4), {"trainer": {"ld_alpha": 0.5}}, "argument of method dpo and ipo"),
        ("kto", marked(4), {"trainer": {"loss_type": "hinge"}}, "it must be kto or apo_zero"),
    ],
)
def test_what_does_not_fit_a_method_is_refused(
    tmp_path, tiny_model, method, rows, settings, message
):
    with pytest.raises((ConfigError, DataError), match=message):
        strop.train(rows, model=str(tiny_model), out=tmp_path / "r", method=method, **settings)
