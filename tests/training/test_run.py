"""From data to run folder, with a tiny real model."""

import json
import logging
import re
import signal
from html.parser import HTMLParser

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import strop
from strop.core.errors import ConfigError, DataError, StropError
from strop.training import Run, report
from tests.training.tiny import chats, save_chats

QUICK = {"max_steps": 3, "batch_size": 4, "held_out": 2, "learning_rate": 1e-2, "quiet": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("finished")
    data = save_chats(folder / "sums.jsonl", 20)
    return strop.train(data, model=tiny_model, out=folder / "run", **QUICK)


def test_a_run_leaves_settings_log_adapter_checkpoints_and_report(finished):
    record = finished.record
    assert finished.finished
    assert record["settings"]["rank"] == 16
    assert record["settings"]["max_length"] == 256
    assert record["versions"]["trl"]
    assert record["measured"]["peak_memory"]["main"] > 1e8
    assert record["data"]["rows"] + record["data"]["held_out_rows"] == 20
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["sha256"])
    assert "planned" not in record
    assert (finished.adapter_folder / "adapter_model.safetensors").is_file()
    assert len(list(finished.checkpoints_folder.iterdir())) == 2
    steps = [line["step"] for line in finished.log if "loss" in line]
    assert steps == [1, 2, 3]
    assert [x["step"] for x in finished.log if "held_out_loss" in x] == [0, 3]


def test_no_file_of_a_run_needs_a_pickle_that_could_run_code(finished):
    pickled = {path.name for path in finished.path.rglob("*.p*t*")}
    assert pickled == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    for name in ("optimizer.pt", "scheduler.pt"):
        for path in finished.path.rglob(name):
            torch.load(path, weights_only=True)
    assert not list(finished.path.rglob("*.bin"))


def test_the_adapter_loads_with_plain_peft_and_answers_like_the_run(finished, tiny_model):
    from peft import PeftModel

    ours, tokenizer = finished.load()
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model, dtype=ours.dtype), finished.adapter_folder
    ).eval()
    ids = tokenizer("3 plus 4?", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, plain(ids).logits)
    assert Run.open(finished.path) == finished


def test_the_plain_trl_way_gives_the_same_losses(tmp_path, finished, tiny_model):
    data = finished.settings["data"]
    plain = strop.train(data, model=tiny_model, out=tmp_path / "plain", accelerate=False, **QUICK)
    for ours, theirs in zip(finished.log, plain.log, strict=True):
        for name in ("loss", "held_out_loss", "grad_norm"):
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4)


def test_the_report_is_one_page_with_curve_samples_settings_and_cost(finished):
    page = finished.report.read_text()
    assert "<svg" in page
    assert page.count("<pre>") == 5
    assert re.search(r"<mark>\d+&lt;\|end\|&gt;", page)
    assert "tokens a second" in page
    assert "learning_rate" in page
    assert "Before and after" not in page
    assert not re.search(r"(src|href)=", page)
    parser = HTMLParser()
    parser.feed(page)


def test_the_report_shows_before_and_after_once_there_is_an_evaluation(tmp_path, finished):
    def side(accuracy: float) -> dict:
        around = [accuracy - 0.05, accuracy + 0.06]
        estimate = {"value": accuracy, "interval": around}
        return {"rows": 300, "accuracy": estimate, "loss": estimate, "perplexity": None}

    path = finished.path / "evaluation.json"
    both = {"data": "<test>.jsonl", "base": side(0.37), "tuned": side(0.7)}
    path.write_text(json.dumps(both))
    report.write(finished)
    page = finished.report.read_text()
    path.unlink()
    assert "37.0 % (32.0 % to 43.0 %)" in page
    assert "70.0 % (65.0 % to 76.0 %)" in page
    assert "300 rows of &lt;test&gt;.jsonl" in page


def test_a_model_object_is_trained_and_gets_its_forward_back(tmp_path, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    run = strop.train(chats(10), model=model, tokenizer=tokenizer, out=tmp_path / "run", **QUICK)
    assert run.settings["data"] is None
    assert run.settings["model"] == str(tiny_model)


def test_training_sends_nothing_and_gives_signals_back(tmp_path, tiny_model):
    from huggingface_hub.utils import _telemetry

    before = signal.getsignal(signal.SIGINT)
    strop.train(chats(10), model=tiny_model, out=tmp_path / "run", **QUICK)
    assert signal.getsignal(signal.SIGINT) is before
    assert _telemetry._TELEMETRY_THREAD is None
    assert _telemetry._TELEMETRY_QUEUE.empty()


def test_a_folder_that_holds_a_run_is_left_alone(finished, tiny_model):
    before = finished.record
    with pytest.raises(ConfigError, match="already holds a run; resume it"):
        strop.train(chats(10), model=tiny_model, out=finished.path, **QUICK)
    assert finished.record == before


def test_a_folder_with_other_files_is_left_alone(tmp_path, tiny_model):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError, match="not an empty folder"):
        strop.train(chats(10), model=tiny_model, out=tmp_path, **QUICK)


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(ConfigError, match="is finished; there is nothing to resume"):
        strop.train(resume=finished.path)


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(ConfigError, match=r"has no run\.json"):
        strop.train(resume=tmp_path)


def _opened_again(run, tmp_path):
    """Return a copy of a finished run that looks as if it had been stopped at its start."""
    copy = Run(tmp_path / "stopped")
    copy.path.mkdir()
    copy.record_file.write_text(run.record_file.read_text())
    copy.update(status="interrupted")
    return copy


def test_a_resumed_run_keeps_its_settings(tmp_path, finished):
    stopped = _opened_again(finished, tmp_path)
    with pytest.raises(ConfigError, match=r"keeps its settings, and in .* rank is 16"):
        strop.train(resume=stopped.path, rank=8)


def test_a_resumed_run_names_versions_that_changed(tmp_path, finished, caplog):
    stopped = _opened_again(finished, tmp_path)
    stopped.update(versions={**stopped.record["versions"], "trl": "1.0"})
    with caplog.at_level(logging.WARNING):
        run = strop.train(resume=stopped.path, quiet=True)
    assert "trl was 1.0 and is now" in caplog.text
    assert run.finished


def test_a_resumed_run_wants_the_data_it_was_started_with(tmp_path, finished):
    stopped = _opened_again(finished, tmp_path)
    changed = save_chats(tmp_path / "sums.jsonl", 19)
    stopped.update(settings={**stopped.settings, "data": str(changed)})
    with pytest.raises(DataError, match="no longer gives the tokens"):
        strop.train(resume=stopped.path, quiet=True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "."),
        ([{"messages": [{"role": "user", "content": "hello"}]}], "1"),
        (
            [
                {
                    "messages": [
                        {"role": "user", "content": "a " * 600},
                        {"role": "assistant", "content": "b"},
                    ]
                }
            ],
            "max_length",
        ),
    ],
    ids=["no rows", "no answer", "answer beyond max_length"],
)
def test_data_that_teaches_nothing_is_refused_and_nothing_is_left(tmp_path, tiny_model, rows, said):
    with pytest.raises(DataError, match=said):
        strop.train(rows, model=tiny_model, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_one_row_is_trained_on_without_a_held_out_part(tmp_path, tiny_model):
    settings = {k: v for k, v in QUICK.items() if k != "held_out"}
    run = strop.train(chats(1), model=tiny_model, out=tmp_path / "run", **settings)
    assert run.finished
    assert run.record["data"]["held_out_rows"] == 0


def test_a_row_of_fifty_thousand_tokens_is_cut_and_named(tmp_path, tiny_model, caplog):
    long = {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "x" * 50_000},
        ]
    }
    with caplog.at_level(logging.WARNING):
        run = strop.train([*chats(8), long], model=tiny_model, out=tmp_path / "run", **QUICK)
    assert "line 9 cut to max_length" in caplog.text
    assert run.record["data"]["cut_lines"] == [9]
    assert run.record["data"]["longest_row"] <= 256


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rat": 1e-3}, "did you mean learning_rate"),
        ({"trainer": {"adam_beta3": 0.9}}, "did you mean adam_beta"),
        ({"trainer": {"output_dir": "x"}}, "trainer.output_dir is decided by strop"),
        ({"trainer": {"optim": "sideways"}}, "SFTConfig refuses"),
        ({"max_length": 5000}, "context ends at 256"),
        ({"target_modules": ["qq_proj"]}, "target_modules is"),
    ],
)
def test_a_setting_that_cannot_work_is_one_clear_error(tmp_path, tiny_model, settings, said):
    with pytest.raises(ConfigError, match=said):
        strop.train(chats(10), model=tiny_model, out=tmp_path / "run", **(QUICK | settings))


def test_a_folder_without_weights_is_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StropError, match="empty"):
        strop.train(chats(10), model=tmp_path / "empty", out=tmp_path / "run", **QUICK)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, tiny_model):
    with pytest.raises(StropError, match=r"the loss is (nan|inf) at step .* lower learning_rate"):
        strop.train(
            chats(10), model=tiny_model, out=tmp_path / "run", **(QUICK | {"learning_rate": 1e30})
        )


def test_trainer_arguments_reach_trl_as_written(tmp_path, tiny_model):
    run = strop.train(
        chats(10), model=tiny_model, out=tmp_path / "run", trainer={"optim": "sgd"}, **QUICK
    )
    last = sorted(run.checkpoints_folder.iterdir())[-1]
    state = torch.load(last / "optimizer.pt", weights_only=True)
    assert "momentum" in state["param_groups"][0]
