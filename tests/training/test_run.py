"""From data to run folder, with a tiny real model."""

import logging
import re
import shutil
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import strop
from strop.core.errors import ConfigError, DataError, DivergedError, StropError
from strop.data import encode_all, read
from strop.training import Run
from strop.training.dataset import length_for
from tests.tiny.saved import QUICK, in_float32, save_chats, sums


def test_a_run_leaves_settings_log_adapter_checkpoints_and_report(finished):
    record = finished.record
    assert finished.finished
    assert record["settings"]["rank"] == 16
    assert record["settings"]["max_length"] == record["data"]["longest_row"] < 256
    assert record["versions"]["trl"]
    assert record["measured"]["peak_memory"]["main"] > 1e8
    assert record["planned"]["activations"] == "keep"
    assert record["planned"]["peak"] > 1e8
    assert record["data"]["rows"] + record["data"]["held_out_rows"] == 20
    assert re.fullmatch("[0-9a-f]{64}", record["data"]["sha256"])
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

    from strop.models.quantized.on_load import packed_folder

    ours, tokenizer = finished.load()
    dtype = getattr(torch, finished.settings["dtype"])
    quantised = AutoModelForCausalLM.from_pretrained(packed_folder(tiny_model), dtype=dtype)
    plain = PeftModel.from_pretrained(quantised, finished.adapter_folder).eval()
    ids = tokenizer("3 plus 4?", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, plain(ids).logits)
    assert Run.open(finished.path) == finished


def check_same_steps(*runs):
    for ours, theirs in zip(*(run.log for run in runs), strict=True):
        for name in ("loss", "held_out_loss", "grad_norm"):
            assert ours.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4)


def test_the_plain_trl_way_gives_the_same_losses(tmp_path, tiny_model):
    check_same_steps(
        *(
            strop.train(
                sums(20),
                **in_float32(tiny_model),
                out=tmp_path / str(accelerate),
                accelerate=accelerate,
                **QUICK,
            )
            for accelerate in (True, False)
        )
    )


def test_a_model_object_is_trained_and_gets_its_forward_back(tmp_path, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    run = strop.train(sums(10), model=model, tokenizer=tokenizer, out=tmp_path / "run", **QUICK)
    assert run.settings["data"] is None
    assert run.settings["model"] == str(tiny_model)


def test_training_sends_nothing_and_gives_signals_back(tmp_path, tiny_model, monkeypatch):
    from huggingface_hub.utils import _telemetry

    monkeypatch.setattr(_telemetry, "_TELEMETRY_THREAD", None)  # plain TRL's, of another test
    before = signal.getsignal(signal.SIGINT)
    strop.train(sums(10), model=tiny_model, out=tmp_path / "run", **QUICK)
    assert signal.getsignal(signal.SIGINT) is before
    assert _telemetry._TELEMETRY_THREAD is None
    assert _telemetry._TELEMETRY_QUEUE.empty()


def test_a_folder_that_holds_a_run_is_left_alone(finished, tiny_model):
    before = finished.record
    with pytest.raises(ConfigError, match="already holds a run; resume it"):
        strop.train(sums(10), model=tiny_model, out=finished.path, **QUICK)
    assert finished.record == before


def test_a_folder_with_other_files_is_left_alone(tmp_path, tiny_model):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError, match="not an empty folder"):
        strop.train(sums(10), model=tiny_model, out=tmp_path, **QUICK)


def test_a_folder_whose_training_was_killed_before_it_had_begun_is_free(tmp_path, tiny_model):
    (tmp_path / ".run.json-x").mkdir()
    (tmp_path / ".run.json-x" / "writer.lock").touch()
    (tmp_path / "train.lock").touch()
    assert strop.train(sums(10), model=tiny_model, out=tmp_path, **QUICK).finished
    assert not list(tmp_path.glob(".run*"))


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
    ("rows", "message"),
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
def test_data_that_teaches_nothing_is_refused_and_nothing_is_left(
    tmp_path, tiny_model, rows, message
):
    with pytest.raises(DataError, match=message):
        strop.train(rows, model=tiny_model, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_one_row_is_trained_on_without_a_held_out_part(tmp_path, tiny_model):
    settings = {k: v for k, v in QUICK.items() if k != "held_out"}
    run = strop.train(sums(1), model=tiny_model, out=tmp_path / "run", **settings)
    assert run.finished
    assert run.record["data"]["held_out_rows"] == 0


def chat(question, answer, **more):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [turns[0], {**turns[1], **more}]}


def test_a_row_of_fifty_thousand_tokens_is_cut_and_named_everywhere(tmp_path, tiny_model, capsys):
    rows = [*sums(8), chat("hi", "x" * 50_000)]
    options = {k: v for k, v in QUICK.items() if k != "quiet"}
    run = strop.train(rows, model=tiny_model, out=tmp_path / "run", **options)
    facts = run.record["data"]
    assert facts["cut_lines"] == [9]
    assert facts["max_length"] == 256
    assert facts["longest_row"] == 256 + facts["cut_tokens"] > 50_000
    sentence = "line 9 cut to max_length, 256 tokens: "
    assert sentence in capsys.readouterr().err
    assert sentence in run.report.read_text()
    assert len(run.record_file.read_text()) < 100_000


def test_a_long_text_is_learned_in_pieces(tmp_path, tiny_model):
    texts = [{"text": "a b c d e f " * 90}, {"text": "short"}, {"text": "also short"}]
    settings = QUICK | {"max_steps": None, "held_out": 0, "epochs": 1, "method": "sft"}
    run = strop.train(texts, model=tiny_model, out=tmp_path / "run", **settings)
    facts = run.record["data"]
    assert facts["divided_lines"] == [1]
    assert facts["cut_lines"] == []
    whole = sum(len(t["text"]) + 1 for t in texts)
    assert facts["supervised_tokens"] == whole
    assert facts["tokens"] == whole + 4  # each of four later pieces repeats a token
    assert run.log[-1]["tokens"] == facts["tokens"]


@pytest.mark.parametrize(
    ("lengths", "limit", "chosen"),
    [
        ([10, 50], None, 50),
        ([10, 50], 32, 32),
        ([100] * 99 + [9000], None, 4096),
        ([100] * 9 + [9000], None, 9000),
        ([100] * 9 + [9000], 8192, 8192),
    ],
)
def test_max_length_follows_from_the_lengths(lengths, limit, chosen):
    assert length_for(lengths, limit) == chosen


def test_only_desirable_answers_are_learned_by_imitation(tmp_path, tiny_model):
    rows = [{"prompt": f"{i}?", "completion": "ja" * i, "label": i % 2 == 0} for i in range(1, 9)]
    run = strop.train(rows, model=tiny_model, out=tmp_path / "run", method="sft", **QUICK)
    facts = run.record["data"]
    assert facts["unwanted_lines"] == [1, 3, 5, 7]
    assert facts["rows"] + facts["held_out_rows"] == 4
    with pytest.raises(DataError, match="of each of its 4 answers that it is not wanted"):
        strop.train(rows[::2], model=tiny_model, out=tmp_path / "other", **QUICK)


@pytest.mark.parametrize("accelerate", [True, False])
def test_weights_of_messages_count_in_the_loss(tmp_path, tiny_model, accelerate):
    weights = (0.0, 0.5, 1.0, 3.0)
    rows = [chat(f"{i} plus 1?", f"{i + 1}" * 3, weight=w) for i, w in enumerate(weights)]
    rows[0]["messages"] += chat("more", "ten")["messages"]
    settings = QUICK | {"held_out": 0, "max_steps": 1, "accelerate": accelerate}
    run = strop.train(rows, **in_float32(tiny_model), out=tmp_path / "run", **settings)
    model, tokenizer = in_float32(tiny_model).values()
    total = count = 0.0
    for example in encode_all(read(rows), tokenizer):
        labels = torch.tensor(example.labels[1:])
        with torch.no_grad():
            logits = model(torch.tensor([example.ids])).logits[0, :-1].double()
        nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        total += float((nll * torch.tensor(example.weights[1:])).sum())
        count += int((labels != -100).sum())
    assert run.log[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_weights_give_the_gradient_of_the_weighed_loss_in_pieces(tmp_path, tiny_model):
    rows = [chat(f"{i} plus 1?", f"{i + 1}" * 3, weight=w) for i, w in enumerate((0.5, 1, 2, 3))]
    settings = QUICK | {"held_out": 0, "max_steps": 2}
    runs = [
        strop.train(rows, **in_float32(tiny_model), out=tmp_path / str(i), **settings, **more)
        for i, more in enumerate(({"micro_batch_tokens": 40}, {"accelerate": False}))
    ]
    check_same_steps(*runs)


def test_a_loss_that_cannot_weigh_is_refused(tmp_path, tiny_model):
    rows = [chat(f"{i} plus 1?", "2", weight=2) for i in range(4)]
    with pytest.raises(ConfigError, match="the data weighs messages"):
        strop.train(
            rows, model=tiny_model, out=tmp_path / "run", trainer={"loss_type": "dft"}, **QUICK
        )


def test_columns_and_learned_parts_are_chosen_by_settings(tmp_path, tiny_model):
    rows = [{"ask": f"{i}?", "reply": "ja"} for i in range(8)]
    settings = QUICK | {"map": "ask=prompt,reply=completion", "end_token": False}
    run = strop.train(rows, model=tiny_model, out=tmp_path / "run", **settings)
    facts = run.record["data"]
    assert facts["supervised_tokens"] == 2 * facts["rows"]
    assert facts["format"] == "prompt_completion"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1e-3}, "did you mean learning_rate"),
        ({"trainer": {"adam_beta3": 0.9}}, "did you mean adam_beta"),
        ({"trainer": {"output_dir": "x"}}, "trainer.output_dir is decided .* use out"),
        ({"trainer": {"optim": "sideways"}}, "a run does not take .*sideways"),
        ({"max_length": 5000}, "context ends at 256"),
        ({"map": "ask"}, "map is 'ask'; write it as"),
        ({"target_modules": ["qq_proj"]}, "qq_proj stands for no layer.* down_proj, gate_proj"),
    ],
)
def test_a_setting_that_cannot_work_is_one_clear_error(tmp_path, tiny_model, settings, message):
    with pytest.raises(ConfigError, match=message):
        strop.train(sums(10), model=tiny_model, out=tmp_path / "run", **(QUICK | settings))


def test_a_folder_without_weights_is_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StropError, match="empty"):
        strop.train(sums(10), model=tmp_path / "empty", out=tmp_path / "run", **QUICK)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, tiny_model):
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) at step .* lower learning_rate"
    ):
        strop.train(
            sums(10), model=tiny_model, out=tmp_path / "run", **(QUICK | {"learning_rate": 1e30})
        )
    run = strop.Run.open(tmp_path / "run")
    assert run.record["status"] == "diverged"
    assert "learning_rate=1e+29" in run.diverged
    assert "diverged" in run.report.read_text()


def test_trainer_arguments_reach_trl_as_written(tmp_path, tiny_model):
    run = strop.train(
        sums(10), model=tiny_model, out=tmp_path / "run", trainer={"optim": "sgd"}, **QUICK
    )
    last = sorted(run.checkpoints_folder.iterdir())[-1]
    state = torch.load(last / "optimizer.pt", weights_only=True)
    assert "momentum" in state["param_groups"][0]


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "gone"])
def test_an_adapter_that_training_did_not_write_is_named(finished, tmp_path, harm):
    shutil.copytree(finished.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    file = run.adapter_folder / "adapter_model.safetensors"
    stored = file.read_bytes()
    assert run.weights() == run.adapter_folder
    file.unlink()
    if harm != "gone":
        flipped = stored[:-1] + bytes([stored[-1] ^ 1])
        file.write_bytes({"flipped": flipped, "cut": stored[:100], "empty": b""}[harm])
    with pytest.raises(DataError, match=r"adapter_model.safetensors is not what training wrote"):
        run.load()


def test_steps_in_several_micro_batches_show_the_noise_of_their_gradient(tmp_path, tiny_model):
    rows = [chat(f"{i} plus {2 * i}?", f"{3 * i}" * 3) for i in range(12)]
    settings = QUICK | {"held_out": 0, "max_steps": 9}
    whole, pieces = (
        strop.train(rows, **in_float32(tiny_model), out=tmp_path / str(n), **settings, **more)
        for n, more in ((0, {"micro_batch_tokens": 10_000}), (1, {"micro_batch_tokens": 20}))
    )
    check_same_steps(whole, pieces)
    assert not any("gradient_noise" in line for line in whole.log)
    assert all(line["gradient_noise"] > 0 for line in pieces.log)
    assert "gradient noise scale" in pieces.report.read_text()
    assert "gradient noise scale" not in whole.report.read_text()
