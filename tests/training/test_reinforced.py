"""GRPO and RLOO by one command: rewards, sampling that is resumed, the policy that is trained samples."""

import io
import json
import time
import types

import pytest
import torch
from rich.console import Console

import strop
from strop.core.errors import ConfigError, DataError
from strop.planning.rewards import lasting
from strop.planning.settings import Settings
from strop.runs.diagnosis.history import History
from strop.runs.diagnosis.rewards import check_drift
from strop.runs.log import read_drawn_answers
from strop.runs.report.answers import drawn_rows
from strop.training.callbacks.shown import StepLines
from strop.training.rewards import GuardedReward, RewardError, rewards_of
from tests.tiny.saved import QUICK, assert_same_adapter, in_float32, resumed_copy
from tests.trainers import runs

RECORDS = {1: {"answer": "It is 42.", "level": 3}, 2: {"level": 5}}
SAMPLED = {
    **QUICK,
    "num_generations": 4,
    "max_completion_length": 8,
    "batch_size": 8,
    "method": "grpo",
}


def asked(count=12):
    return [{"prompt": f"{a} plus {a + 1}?", "answer": str(2 * a + 1)} for a in range(count)]


def own(folder, body):
    """Return the name of a reward in a file of one's own."""
    file = folder / "own.py"
    file.write_text(f"import math, time\n\ndef score(completions, **columns):\n    {body}\n")
    return f"{file}:score"


def letters(folder):
    return own(folder, "return [len(set(c[0]['content'])) / 9 for c in completions]")


def rewarded(name, texts, lines=(1, 2), records=RECORDS, **settings):
    (reward,) = rewards_of(Settings(reward=name, **settings), records)
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    return reward([], completions, [], list(lines))


@pytest.mark.parametrize(
    ("name", "texts", "earned"),
    [
        ("number", ["6 times 7 is 42", "41"], [1, None]),
        ("exact", ["We add.\nit is 42", "it"], [1, None]),
        ("regex=a{2,3}", ["baab", "ba"], [1, 0]),
        ("length=3", ["one two three", "one two three four five six"], [1, 0.5]),
        (
            "format=think/answer",
            ["<think>so</think>\n<answer>4</answer>", "4 <answer>4</answer>"],
            [1, 0],
        ),
    ],
)
def test_a_ready_reward_earns_what_it_says(name, texts, earned):
    assert rewarded(name, texts) == earned


def test_rewards_from_files_read_a_schema_and_rules(tmp_path):
    (tmp_path / "s.json").write_text('{"type": "object", "required": ["a"]}')
    (tmp_path / "v.yaml").write_text('max_words: 2\nforbidden: ["no"]\n')
    assert rewarded(f"json_schema={tmp_path / 's.json'}", ['{"a": 1}', "{}"]) == [1, 0]
    assert rewarded(f"rules={tmp_path / 'v.yaml'}", ["yes", "no, not so"]) == [1, 0]


def test_a_reward_of_ones_own_gets_the_columns_of_each_row(tmp_path):
    name = own(tmp_path, "return columns['level']")
    assert rewarded(f"{name}:0.5", ["a", "b"]) == [3, 5]
    (reward,) = rewards_of(Settings(reward=f"{name}:0.5"), RECORDS)
    assert reward.weight == 0.5


def test_files_of_rewards_are_named_for_good(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = "a.py:f:0.5,number,rules=v.yaml,format=think/answer"
    expected = [f"{tmp_path}/a.py:f:0.5", "number", f"rules={tmp_path}/v.yaml"]
    assert lasting(given) == [*expected, "format=think/answer"]
    assert lasting(lasting(given)) == lasting(given)
    assert lasting("regex=a.py:1,2") == ["regex=a.py:1,2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1 / 0]", "it raises ZeroDivisionError"),
        ("return [1]", "it returns 1 values for 2 answers"),
        ("return [1, math.nan]", "returns nan for the answer 'b' to line 2"),
        ("return [1, 'good']", "returns 'good' for the answer 'b' to line 2, which is no number"),
        ("return 1", "returns a int, not a list"),
        ("time.sleep(60)", "took longer than 0.2 seconds"),
    ],
)
def test_a_reward_that_fails_is_named(tmp_path, body, message):
    started = time.monotonic()
    with pytest.raises(RewardError, match=message):
        rewarded(own(tmp_path, body), ["a", "b"], reward_timeout=0.2)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "grpo"}, "method grpo needs a reward"),
        ({"method": "dpo", "reward": "number"}, "the method is dpo"),
        ({"reward": "numbr"}, "no ready reward"),
        ({"reward": "regex="}, "write it as regex=PATTERN"),
        ({"reward": "length=long"}, "a whole number of words"),
        ({"reward": "number", "batch_size": 12}, "take --batch-size 8 or --batch-size 16"),
        ({"reward": "number", "num_generations": 1}, "at least 2"),
        ({"reward": "number", "trainer": {"ld_alpha": 1}, "method": "grpo"}, "the method is grpo"),
    ],
)
def test_settings_that_no_reward_can_use_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


def test_prompts_that_leave_no_room_or_are_too_few_are_refused(tmp_path, tiny_model):
    given = {**SAMPLED, "model": str(tiny_model), "reward": "number"}
    with pytest.raises(DataError, match="leaves none of 20 for an answer of 8"):
        strop.train(asked(), out=tmp_path / "a", **given, max_length=20)
    with pytest.raises(DataError, match="has 1 prompts to train on, and a step takes 2"):
        strop.train(asked(3), out=tmp_path / "b", **given)
    with pytest.raises(DataError, match="nothing in it asks"):
        strop.train([{"text": "a b"}] * 4, out=tmp_path / "c", **given)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_sampled_answers_are_learned_the_same_with_and_without_acceleration(
    tmp_path, tiny_model, method
):
    settings = {**SAMPLED, "method": method, "max_steps": 20, "beta": 0.1, "save_every": 20}
    settings["learning_rate"] = 1e-3  # at 1e-2 rounding grows tenfold in five steps
    ours, plain = (
        strop.train(
            asked(),
            **in_float32(tiny_model),
            out=tmp_path / str(accelerate),
            accelerate=accelerate,
            reward=[letters(tmp_path), "number:0.5"],
            trainer={"num_iterations": 2},
            **settings,
        )
        for accelerate in (True, False)
    )
    assert len(ours.log) == len(plain.log)
    for line, reference in zip(ours.log, plain.log, strict=True):
        assert line.keys() == reference.keys()
        for name in line.keys() - {"seconds", "memory", "disk", "accuracy"}:
            assert line[name] == pytest.approx(reference[name], rel=1e-4, abs=1e-4)
    steps = [line for line in ours.log if "loss" in line]
    assert {"reward", "equal_groups", "kl", "answer_length"} <= steps[0].keys()
    notes = " ".join(ours.record["data"]["notes"])
    assert "before training: mean" in notes
    assert ours.settings["learning_rate"] == 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("method", "save_every"), [("grpo", 3), ("grpo", 4), ("rloo", 3)])
def test_a_run_resumes_to_the_same_bytes_within_and_between_samplings(
    tmp_path, tiny_model, method, save_every
):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked(6)))
    settings = {**SAMPLED, "method": method, "max_steps": 8, "save_every": save_every}
    settings |= {"reward": letters(tmp_path), "trainer": {"num_iterations": 2}}
    whole = strop.train(file, out=tmp_path / "whole", model=str(tiny_model), **settings)
    resumed = resumed_copy(whole, tmp_path / "half", 2 * save_every, 8)
    assert_same_adapter(whole, resumed)
    measured = {"seconds": 0, "memory": 0, "disk": 0}
    for one, other in zip(whole.log, resumed.log, strict=True):
        assert {**one, **measured} == {**other, **measured}
    if method == "rloo":
        (exported,) = strop.export(resumed, "merged")
        assert exported.certificate.passed


@pytest.mark.slow
def test_a_reward_that_fails_in_training_leaves_a_checkpoint_that_is_resumed(tmp_path, tiny_model):
    name = own(
        tmp_path,
        f"\n    import pathlib\n    calls = pathlib.Path({str(tmp_path / 'calls')!r})\n"
        "    calls.write_text(calls.read_text() + 'x' if calls.exists() else 'x')\n"
        "    if len(calls.read_text()) == 4:\n        raise OSError('lost')\n"
        "    return [len(set(c[0]['content'])) / 9 for c in completions]",
    )
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked()))
    settings = {**SAMPLED, "held_out": 0, "model": str(tiny_model), "max_steps": 4, "reward": name}
    with pytest.raises(
        ConfigError, match=r"raises OSError: lost.*stopped after step 2; go on with"
    ):
        strop.train(file, out=tmp_path / "run", **settings)
    resumed = strop.train(resume=tmp_path / "run", quiet=True)
    assert resumed.finished
    whole = strop.train(file, out=tmp_path / "whole", **settings)
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in whole.log]


def test_the_model_that_samples_is_the_model_that_is_trained(tiny_model, tmp_path):
    built = runs.trainer("grpo", tiny_model, tmp_path, max_steps=1)
    strop.accelerate(built)
    prompts = [[{"role": "user", "content": text}] for text in ("one", "another", "one")]
    answers = strop.models.sampling.sample(
        built.model,
        built.processing_class,
        prompts,
        strop.models.sampling.Sampling(max_new_tokens=12, temperature=1.0),
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = built.processing_class.apply_chat_template(prompt, add_generation_prompt=True)
        ids = ids["input_ids"] if isinstance(ids, dict) or hasattr(ids, "keys") else ids
        whole = torch.tensor([[*ids, *answer.ids]])
        log_probs, *_ = built._get_per_token_logps_and_entropies(
            built.model, whole, torch.ones_like(whole), len(answer.ids)
        )
        ratios = (log_probs[0] - torch.tensor(answer.log_probs)).exp()
        assert (ratios - 1).abs().max() < 1e-4


@pytest.mark.slow
def test_a_rewarded_run_is_measured_and_exported_as_any_other(tmp_path, tiny_model):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in asked()))
    run = strop.train(
        file, out=tmp_path / "run", model=str(tiny_model), **SAMPLED, reward="number,length=3:0.2"
    )
    assert {"reward.number", "reward.length=3"} <= run.log[1].keys()
    drawn = (run.path / "drawn_answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in drawn] == [1, 1, 2, 2, 3, 3]
    page = run.report.read_text()
    assert "Drawn answers" in page
    assert "mean reward of drawn answers" in page
    assert strop.evaluation.compare(run).tuned.rows == run.record["data"]["held_out_rows"]
    (exported,) = strop.export(run, "merged")
    assert exported.certificate.passed


@pytest.mark.parametrize(
    ("name", "first", "last", "sentence"),
    [
        ("entropy", 2.0, 0.1, "the entropy of a drawn token fell from 2 to 0.1 nats"),
        ("answer_length", 20.0, 60.0, "drawn answers have 60 tokens on average, and had 20"),
        ("kl", 0.0, 2.0, "the model is 2 nats a token away"),
    ],
)
def test_what_drifts_in_drawn_answers_is_named(name, first, last, sentence):
    lines = [{"step": s, "reward": s % 3, name: first if s < 10 else last} for s in range(1, 21)]
    (finding,) = check_drift(History(lines))
    assert finding.evidence.startswith(sentence)
    assert not [*check_drift(History(lines[:9] * 2))]


def test_a_guarded_reward_is_named_as_written():
    assert GuardedReward("number", 1.0, print, RECORDS, 1.0).__name__ == "number"


def test_a_sample_of_drawn_answers_is_shown_with_its_reward(tmp_path):
    lines = [
        {"step": step, "line": 3, "reward": reward, "answer": "so  many words " * 40}
        for step in range(1, 31)
        for reward in (1.0, 0.25)
    ]
    (tmp_path / "drawn_answers.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    rows = drawn_rows(read_drawn_answers(tmp_path))
    assert len(rows) == 20
    assert [rows[0][0], rows[-1][0]] == ["1", "30"]
    assert rows[0][1:3] == ["3", "1"]
    assert len(rows[0][3]) == 301
    shown = io.StringIO()
    lines_of_run = StepLines(Console(file=shown, width=400))
    args = types.SimpleNamespace(output_dir=str(tmp_path / "checkpoints"))
    state = types.SimpleNamespace(global_step=21, max_steps=30)
    lines_of_run.on_train_begin(args, state, None)
    lines_of_run.on_step_begin(args, state, None)
    logs = {"loss": 0.1, "reward": 0.5, "num_tokens": 9}
    lines_of_run.on_log(args, state, None, logs=logs)
    assert "step 21, to line 3, the best answer earned 1: so many words" in shown.getvalue()
