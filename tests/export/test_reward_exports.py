"""Exports of reward models: opened by transformers and PEFT, certified by their rewards."""

import html
import json
import math
import re
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import strop
from strop.core.errors import DataError, UnsupportedError
from strop.exporting import export
from strop.exporting.certify.certificate import Certificate, judged, not_compared
from strop.exporting.certify.certified import obstacle
from strop.exporting.certify.certify import certify
from strop.exporting.certify.findings import Findings
from strop.exporting.certify.record import record_reference
from strop.exporting.certify.reference import ReferenceOutputs
from strop.exporting.certify.rewards.limits import ReferenceRewards
from strop.exporting.safetensors.adapter import over_base
from strop.exporting.weights.sketches import ROUNDING
from strop.metrics.rewards import reward_agreement
from strop.runs.reward_model import RewardModel
from tests.export.test_exports import command
from tests.export.test_faults import change_json, change_weights
from tests.tiny.saved import save_model, save_tiny_llama
from tests.training.test_preferences import pairs
from tests.training.test_reward_model import RANKED, saved_pairs

UP = "model.layers.0.mlp.up_proj.weight"


def ranked_run(folder, model, **settings):
    given = RANKED | {"max_steps": 8, "bits": 32, "held_out": 6, "learning_rate": 3e-3} | settings
    return strop.train(saved_pairs(folder, 24), out=folder / "run", model=str(model), **given)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Return a run that learned to reward."""
    folder = tmp_path_factory.mktemp("ranked")
    return ranked_run(folder, save_tiny_llama(folder / "model"))


@pytest.fixture(scope="module")
def exported(ranked):
    """Return the folders of its exports, the certificates of which passed."""
    return {one.target: one for one in export(ranked, "merged", "adapter")}


def rewards_by_card(model, tokenizer, conversations):
    """Return rewards as a model card says, of all conversations at once."""
    texts = [tokenizer.apply_chat_template(chat, tokenize=False).rstrip() for chat in conversations]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits[:, 0].tolist()


def conversations():
    """Return conversations of unequal length."""
    return [
        [*row["prompt"], *row[answer]] for row in pairs(12)[8:] for answer in ("chosen", "rejected")
    ]


@pytest.mark.slow
def test_transformers_alone_opens_a_merged_folder_and_gives_the_rewards_of_the_run(
    ranked, exported
):
    folder = exported["merged"].path
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.num_labels == 1
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rewards = rewards_by_card(model, tokenizer, conversations())
    assert rewards == pytest.approx(RewardModel.of(ranked).rewards(conversations()), abs=1e-5)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_peft_opens_an_adapter_over_the_base_and_gives_the_rewards_of_the_run(ranked, exported):
    folder = exported["adapter"].path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(ranked.model, num_labels=1)
    base.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model = PeftModel.from_pretrained(base, folder).eval()
    rewards = rewards_by_card(model, tokenizer, conversations())
    assert rewards == pytest.approx(RewardModel.of(ranked).rewards(conversations()), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["merged", "adapter"])
def test_the_verdict_stands_in_certificate_record_card_and_report(ranked, exported, target):
    certificate, folder = exported[target].certificate, exported[target].path
    assert certificate.passed
    assert certificate.rewards.conversations == 12
    assert certificate.rewards.pairs == 6
    assert Certificate.open(folder) == certificate
    assert obstacle(folder) is None
    assert ranked.record["exports"][str(folder)] == certificate.verdict
    assert certificate.sentence in html.unescape(ranked.report.read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"Certified: {certificate.sentence}." in card
    assert "AutoModelForSequenceClassification.from_pretrained(" in card


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "code"), [("bfloat16", "BF16"), ("float16", "F16")])
def test_the_limit_follows_the_format_that_is_asked_for(ranked, exported, tmp_path, dtype, code):
    (rounded,) = export(ranked, "merged", out=tmp_path, dtype=dtype)
    tensors = load_file(rounded.path / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    exact = exported["merged"].certificate
    assert rounded.certificate.passed
    assert rounded.certificate.rewards.mean > exact.thresholds.mean
    ratio = rounded.certificate.thresholds.mean / exact.thresholds.mean
    assert ratio == pytest.approx(ROUNDING[code] / ROUNDING["F32"])


@pytest.mark.slow
def test_a_run_in_4_bits_is_merged_into_the_base_that_it_was_trained_on(tmp_path):
    run = ranked_run(tmp_path, save_model("llama3", tmp_path / "model"), bits=4)
    (merged,) = export(run, "merged")
    assert merged.certificate.passed
    assert merged.certificate.thresholds.mean < 1e-5


def change_weight(folder):
    change_weights(folder, lambda t: t[UP].mul_(1.5))


def turn_head(folder):
    change_weights(folder, lambda t: t["score.weight"].neg_())


def lose_head(folder):
    change_weights(folder, lambda t: t.pop("score.weight"))


def double_alpha(folder):
    change_json(folder / "adapter_config.json", lora_alpha=64)


FAULTS = {
    "a changed weight": ("merged", change_weight, rf"{UP} .*its rewards differ from"),
    "a turned head": (
        "merged",
        turn_head,
        r"score.weight differs .* turns the order of [1-6] of 6 pairs",
    ),
    "a lost head": ("merged", lose_head, r"the folder lacks score.weight"),
    "no padding token": (
        "merged",
        lambda f: change_json(f / "config.json", pad_token_id=None),
        r"config.json says 1 labels and the padding token None",
    ),
    "two labels": (
        "merged",
        lambda f: change_json(f / "config.json", id2label={"0": "a", "1": "b"}),
        r"cannot be opened|2 labels",
    ),
    "wrong alpha": ("adapter", double_alpha, r"carries 2 times its update.*its rewards differ"),
}


@pytest.fixture(scope="module")
def recorded(ranked, tmp_path_factory):
    """Return a folder with what the trained model says."""
    folder = tmp_path_factory.mktemp("recorded")
    record_reference(ranked, ranked.assets()).save(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_export_is_not_certified(ranked, exported, recorded, tmp_path, name):
    target, damage, cause = FAULTS[name]
    folder = tmp_path / target
    shutil.copytree(exported[target].path, folder)
    damage(folder)
    opened = folder
    if target == "adapter":
        opened = over_base(folder, ranked.assets().folder, tmp_path / "opened")
    reference = ReferenceOutputs.open(recorded)
    certificate = certify(folder, target, "float32", opened, recorded, reference)
    assert not certificate.passed
    assert re.search(cause, " ".join(certificate.faults)), certificate.faults
    assert Certificate.open(folder) == certificate


@pytest.mark.slow
def test_rows_with_one_answer_are_compared_two_by_two(ranked, tmp_path):
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs(5)]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (merged,) = export(ranked, "merged", out=tmp_path, data=file)
    assert merged.certificate.rewards.pairs == 10
    assert merged.certificate.compared_on.endswith("answers.jsonl")


@pytest.mark.slow
def test_a_single_answer_is_nothing_to_compare(ranked, tmp_path):
    rows = [{"prompt": [{"role": "user", "content": "one"}], "completion": "two"}]
    with pytest.raises(DataError, match=r"no two answers to compare .* --data FILE"):
        export(ranked, "merged", out=tmp_path, data=rows)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["gguf", "ollama", "bnb"])
def test_what_writes_text_is_refused_with_what_works(ranked, tmp_path, target):
    with pytest.raises(UnsupportedError, match=r"writes none: .* --to merged, or adapter"):
        export(ranked, "merged", target, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_certifies_a_reward_model(ranked, tmp_path):
    done = command(ranked.path, "--to", "merged", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Certificate.open(tmp_path / "merged").sentence in done.stdout


def reference(*rewards):
    texts = [[1]] * len(rewards)
    two_by_two = [(i, i + 1) for i in range(0, len(rewards), 2)]
    return ReferenceRewards(
        texts=texts, rewards=[*rewards], pairs=two_by_two, pad=0, size=1.0, blocks=2
    )


def faults(trained, exported, kind="BF16"):
    findings = Findings(rewards=reward_agreement(trained.rewards, exported, trained.pairs))
    return " ".join(judged(findings, trained.thresholds(kind)))


def test_rewards_within_the_rounding_of_the_format_have_no_fault():
    noise = reference(1.0, 0.0).thresholds("BF16").mean
    assert faults(reference(1.0, 0.0), [1.0 + noise / 2, noise / 2]) == ""


@pytest.mark.parametrize(
    ("exported", "cause"),
    [
        ([1.1, 0.1, 1.1, 0.1], "differ from the trained model's by 0.1 on average"),
        ([1.05, 0.0, 1.0, 0.0], "a conversation differs from the trained model's by 0.05"),
        ([math.nan, 0.0, 1.0, 0.0], "by nan on average"),
        ([0.0, 1.0, 1.0, 0.0], "the order of 1 of 2 pairs"),
    ],
)
def test_what_exceeds_the_rounding_of_the_format_is_a_fault(exported, cause):
    assert cause in faults(reference(1.0, 0.0, 1.0, 0.0), exported)


def test_a_pair_that_turns_at_a_near_tie_is_no_fault():
    trained = reference(1.0, 0.0, 0.5, 0.499)
    assert faults(trained, [1.0, 0.0, 0.499, 0.5]) == ""
    assert "order" in faults(trained, [1.0, 0.0, 0.499, 0.5], "F32")


def test_rewards_that_are_all_alike_show_nothing():
    assert "so that they show nothing" in faults(reference(1.0, 0.999), [1.0, 0.999])


def test_an_export_of_which_no_reward_was_compared_names_the_last_step():
    assert judged(Findings(step="opening the model"), None) == (
        "nothing was measured of it; opening the model came last",
    )


def test_a_reward_export_that_was_not_compared_has_no_limits(tmp_path):
    not_compared("merged", "float32", rewards=True).save(tmp_path)
    certificate = Certificate.open(tmp_path)
    assert certificate.thresholds is None
    assert "it was not compared" in certificate.sentence


def test_agreement_of_rewards_counts_differences_spread_and_order():
    agreement = reward_agreement(
        [3.0, 1.0, 2.0, 2.0], [3.5, 1.0, 2.0, 1.0], [(0, 1), (1, 2), (2, 3)]
    )
    assert (agreement.mean, agreement.largest) == (1.5 / 4, 1.0)
    assert agreement.spread == pytest.approx(math.sqrt(0.5))
    assert (agreement.pairs, agreement.same_order) == (3, 3)
    turned = reward_agreement([3.0, 1.0], [1.0, 1.0], [(0, 1)])
    assert turned.flips == [2.0]
