"""Pairs of answers: encoded as TRL does, learned by DPO, the same with and without acceleration."""

import json

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

import strop
from strop.core.errors import ConfigError, DataError
from strop.data.reading.columns import columns_of
from strop.evaluation import compare
from strop.planning.settings import Settings
from strop.runs.run_data import read_and_split
from strop.training.methods import dpo
from strop.training.trainer import RunTrainer
from tests.tiny.saved import QUICK, assert_same_adapter, in_float32, resumed_copy


class Plain(RunTrainer, DPOTrainer):
    """TRL's trainer, which reports nothing to the hub."""


def pairs(count):
    return [
        {
            "prompt": [{"role": "user", "content": f"{a} plus {a + 1}?"}],
            "chosen": [{"role": "assistant", "content": f"It is {2 * a + 1}, of course."}],
            "rejected": [{"role": "assistant", "content": f"It is {2 * a}"}],
        }
        for a in range(count)
    ]


def encoded(rows, tokenizer, **settings):
    settings = Settings(method="dpo", held_out=0, **settings)
    split = read_and_split(rows, columns_of(settings.plain()), settings)
    return dpo.encode(split, tokenizer, settings, None)


def test_pairs_have_the_tokens_that_trl_gives_them(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ours = encoded(pairs(3), tokenizer).train
    trainer = Plain(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        args=DPOConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(pairs(3)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2),
    )
    for pair, row in zip(ours, trainer.train_dataset, strict=True):
        assert pair.prompt == row["prompt_ids"]
        for answer, theirs in ((pair.chosen, "chosen_ids"), (pair.rejected, "rejected_ids")):
            # TRL also learns what its template writes behind the end of the answer.
            assert answer == row[theirs][: len(answer)]
            assert not tokenizer.decode(row[theirs][len(answer) :]).strip()


def test_the_prompt_of_a_pair_ends_where_its_answers_begin_though_these_begin_alike(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    (pair,) = encoded(pairs(1), tokenizer).train
    assert tokenizer.decode(pair.chosen).startswith("It is 1")
    assert tokenizer.decode(pair.rejected).startswith("It is 0")


@pytest.mark.slow
def test_pairs_are_learned_the_same_with_and_without_acceleration(tmp_path, tiny_model):
    settings = {**QUICK, "max_steps": 20, "learning_rate": 1e-3}
    runs = [
        strop.train(
            pairs(20),
            **in_float32(tiny_model),
            out=tmp_path / str(accelerate),
            accelerate=accelerate,
            **settings,
        )
        for accelerate in (True, False)
    ]
    for ours, theirs in zip(*(run.log for run in runs), strict=True):
        for name in ("loss", "held_out_loss", "grad_norm"):
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4, abs=1e-4)
    assert all(run.settings["method"] == "dpo" for run in runs)
    held_out = [line["held_out_loss"] for line in runs[0].log if "held_out_loss" in line]
    assert held_out[0] == pytest.approx(0.6931, abs=1e-3)  # log 2: no adapter, no preference
    assert held_out[-1] < held_out[0]
    measured = [line for line in runs[0].log if "held_out_loss" in line]
    assert measured[0]["held_out_reward_margin"] == 0
    assert measured[-1]["held_out_reward_accuracy"] == 1
    assert runs[0].log[-2]["reward_margin"] > 0


@pytest.mark.slow
def test_a_preference_run_resumes_to_the_same_bytes(tmp_path, tiny_model):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs(12)))
    settings = {**QUICK, "max_steps": 4, "save_every": 2, "model": str(tiny_model)}
    whole = strop.train(file, out=tmp_path / "whole", **settings)
    assert_same_adapter(whole, resumed_copy(whole, tmp_path / "half", 4))


@pytest.mark.slow
def test_the_method_follows_from_the_data_and_is_said(tmp_path, tiny_model):
    quick = {"model": str(tiny_model), "max_steps": 1, "rank": 2, "quiet": True}
    run = strop.train(pairs(8), out=tmp_path / "auto", **quick)
    assert run.settings["method"] == "dpo"
    assert "becomes likelier than the rejected one" in " ".join(run.record["data"]["notes"])
    imitated = strop.train(pairs(8), out=tmp_path / "sft", method="sft", **quick)
    assert run.settings["learning_rate"] == 3e-4
    assert imitated.settings["learning_rate"] > 1e-4
    assert "nothing is learned from the rejected ones" in " ".join(imitated.record["data"]["notes"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dpo", "reasoning": False}, "reasoning is false"),
        ({"method": "dpo", "max_length": 8}, "raise max_length"),
        ({"method": "ipo", "trainer": {"loss_type": "hinge"}}, "the method decides it"),
        ({"method": "sft", "trainer": {"ld_alpha": 0.5}}, "an argument of method dpo and ipo"),
        ({"method": "dpo", "beta": 0.0}, "beta is 0"),
    ],
)
def test_settings_that_do_not_suit_pairs_are_refused(tmp_path, tiny_model, settings, message):
    with pytest.raises((ConfigError, DataError), match=message):
        strop.train(pairs(4), model=str(tiny_model), out=tmp_path / "run", **settings)


def test_rows_with_one_answer_are_named_where_pairs_are_asked_for(tmp_path, tiny_model):
    rows = [{"prompt": "2 plus 2?", "completion": "4"}, {"prompt": "1 plus 1?", "completion": "2"}]
    with pytest.raises(DataError, match=r"lines 1-2: it has one answer[\s\S]*method sft"):
        strop.train(rows, model=str(tiny_model), out=tmp_path / "run", method="dpo")


@pytest.mark.slow
def test_a_preference_run_is_measured_and_exported_as_any_other(tmp_path, tiny_model):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs(12)))
    run = strop.train(file, model=str(tiny_model), out=tmp_path / "run", **QUICK)
    comparison = compare(run)
    assert comparison.tuned.rows == run.record["data"]["held_out_rows"]
    (exported,) = strop.export(run, "merged")
    assert exported.certificate.passed
