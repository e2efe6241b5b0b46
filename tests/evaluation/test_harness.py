import contextlib
import io
import json
import math
import random

import pytest
import torch
import yaml
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import strop
from strop.actions.evaluate import evaluate_tasks, gated
from strop.core.errors import ConfigError, DataError, MissingPackageError, UnsupportedError
from strop.evaluation.harness.loading import Harness
from strop.evaluation.harness.tasks import compare_on_tasks
from strop.training import train
from tests.tiny.saved import save_chats

QUESTIONS = [
    {
        "context": "They met " + "by the sea " * (1 + i % 4),
        "question": f"what is {i} and {i + 1}?",
        "choices": [f" {2 * i + 1}", f" {i}", " some", " none of the others"],
        "label": i % 4,
    }
    for i in range(9)
]
CHOICE = {
    "task": "facts",
    "output_type": "multiple_choice",
    "doc_to_text": "{{context}}\n{{question}}",
    "doc_to_target": "label",
    "doc_to_choice": "{{choices}}",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ],
}
ANSWER = {
    "task": "answers",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[label]}}",
    "generation_kwargs": {"until": ["e"], "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
TEXT = {
    "task": "texts",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{context * 60}}",  # longer than the model takes
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
}


def task_file(folder, task, **changes):
    """Write a task on QUESTIONS and return its path."""
    rows = folder / "questions.jsonl"
    rows.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test",
    }
    path = folder / f"{task['task']}.yaml"
    path.write_text(yaml.safe_dump({**common, **task, **changes}))
    return str(path)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return strop.load(str(tiny_model), dtype=torch.float32)


@pytest.fixture
def files(tmp_path):
    return [
        task_file(tmp_path, {**CHOICE, "num_fewshot": 2, "fewshot_split": "test"}),
        task_file(tmp_path, ANSWER),
        task_file(tmp_path, TEXT),
    ]


def by_the_harness(model, tokenizer, files):
    with contextlib.redirect_stderr(io.StringIO()):
        plain = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=4)
        manager = TaskManager(include_defaults=False)
        return evaluator.simple_evaluate(
            plain, tasks=files, task_manager=manager, bootstrap_iters=10
        )["results"]


def test_results_are_the_harnesss_own(loaded, files):
    state = random.getstate()
    ours = compare_on_tasks([("one", lambda: loaded)], Harness(names=files), 0)["model"]
    assert random.getstate() == state
    plain = by_the_harness(*loaded, files)
    assert ours["harness"].keys() == plain.keys()
    for task, measures in plain.items():
        for name, value in measures.items():
            if name.partition(",")[0] in {"acc", "acc_norm", "exact_match"}:
                assert ours["harness"][task][name] == value
                assert ours[f"{task}.{name.partition(',')[0]}"]["value"] == pytest.approx(value)
    for name in ("word_perplexity", "bits_per_byte"):
        value = ours[f"texts.{name}"]["value"]
        assert math.log(value) == pytest.approx(math.log(plain["texts"][f"{name},none"]), rel=1e-5)


def test_a_run_is_measured_beside_its_base_with_the_paired_difference(tiny_model, tmp_path, files):
    data = save_chats(tmp_path / "chats.jsonl", 9)
    run = train(str(data), model=str(tiny_model), out=tmp_path / "run", max_steps=2, quiet=True)
    evaluated = evaluate_tasks(str(run.path), files[:1], options={"limit": 6})
    change = evaluated["difference"]["facts.acc"]
    values = [evaluated[name]["facts.acc"]["value"] for name in ("base", "tuned")]
    assert change["value"] == pytest.approx(values[1] - values[0])
    assert change["low"] <= change["value"] <= change["high"]
    assert evaluated["tuned"]["rows"] == 6
    passed = gated(evaluated, below={"facts.acc": 2.0})["gate"]
    assert not passed["passed"]
    assert "facts.acc is" in passed["checks"][0]["sentence"]


def test_every_unknown_task_is_named_before_a_model_is_opened(tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="did you mean arc_easy") as e:
        evaluate_tasks(str(tiny_model), ["arc_eesy", str(tmp_path / "no.yaml")])
    assert "no.yaml: there is no such file" in str(e.value)


def test_a_task_that_wants_code_from_the_hub_is_refused(tiny_model, tmp_path):
    wanting = [{"metric": "seqeval", "aggregation": "mean", "higher_is_better": True}]
    file = task_file(tmp_path, ANSWER, metric_list=wanting)
    with pytest.raises(UnsupportedError, match=r"wants seqeval.*runs no code from there"):
        evaluate_tasks(str(tiny_model), [file])


def test_a_faulty_task_is_named(tiny_model, tmp_path):
    file = task_file(tmp_path, CHOICE, doc_to_text="{{nothing.at.all}}")
    with pytest.raises(DataError, match=r"facts\.yaml cannot be measured"):
        evaluate_tasks(str(tiny_model), [file])


def test_without_the_package_its_command_is_given(tiny_model, monkeypatch):
    monkeypatch.setattr("strop.actions.evaluate.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'strop\[lm-eval\]'"):
        evaluate_tasks(str(tiny_model), ["arc_easy"])
