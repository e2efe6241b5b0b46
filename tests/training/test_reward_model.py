"""Reward models: TRL's loss from compact batches, resumed, used as a reward."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

import strop
from strop.core.errors import ConfigError, UnsupportedError
from strop.evaluation.answers.predict import predict
from strop.runs.reward_model import RewardModel
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import QUICK, assert_same_adapter, in_float32, resumed_copy
from tests.training.test_preferences import pairs
from tests.training.test_reinforced import SAMPLED, asked

RANKED = {**QUICK, "method": "reward", "learning_rate": 1e-3}


def saved_pairs(folder, count=16):
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs(count)))
    return file


@pytest.mark.slow
def test_pairs_are_ranked_the_same_with_and_without_acceleration(tmp_path, tiny_model):
    ours = trained_both_ways(pairs(20), tiny_model, tmp_path, **(RANKED | {"max_steps": 12}))
    assert ours.log[-2]["reward_margin"] > ours.log[1]["reward_margin"]
    assert "gets the higher reward" in " ".join(ours.record["data"]["notes"])


@pytest.mark.slow
def test_a_reward_model_resumes_to_the_same_bytes_and_rewards_a_policy(tmp_path, tiny_model):
    settings = RANKED | {"max_steps": 4, "save_every": 2, "model": str(tiny_model), "bits": 32}
    whole = strop.train(saved_pairs(tmp_path), out=tmp_path / "whole", **settings)
    assert_same_adapter(whole, resumed_copy(whole, tmp_path / "half", 4))
    with pytest.raises(UnsupportedError, match="learned to reward answers and writes none"):
        whole.load()
    model = RewardModel.of(whole)
    chats = [[*row["prompt"], *row["chosen"]] for row in pairs(3)]
    theirs = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1),
        whole.adapter_folder,
    ).eval()
    for chat, reward in zip(chats, model.rewards(chats), strict=True):
        text = model.tokenizer.apply_chat_template(chat, tokenize=False).rstrip("\n")
        ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert reward == pytest.approx(theirs(input_ids=ids).logits.item(), abs=1e-5)
    scored = tmp_path / "scored.jsonl"
    predict(whole, saved_pairs(tmp_path, 3), scored)
    rows = [json.loads(line) for line in scored.read_text().splitlines()]
    assert [row["reward"] for row in rows] == pytest.approx(model.rewards(chats), abs=1e-5)
    assert all("reward_rejected" in row for row in rows)
    policy = strop.train(
        asked(),
        **in_float32(tiny_model),
        out=tmp_path / "policy",
        reward=f"{whole.path}:0.5",
        **SAMPLED,
    )
    assert policy.finished
    assert policy.settings["reward"] == [f"{whole.path}:0.5"]


def test_a_run_of_another_method_is_no_reward(finished):
    with pytest.raises(ConfigError, match="was trained by method sft; a reward is a run of"):
        RewardModel.of(finished)
