"""Training on weights in 4, 16 and 32 bits, from the settings to the run that is opened again."""

import re
import shutil

import pytest
import torch

from strop.core.errors import ConfigError, UnsupportedError
from strop.evaluation import compare, evaluate
from strop.models import complete, load
from strop.models.precision import bits_of
from strop.training import Run, train
from tests.tiny.saved import save_chats, sums


@pytest.mark.parametrize("bits", [None, 4, 16, 32])
def test_a_run_records_the_bits_of_its_weights_and_opens_them_so(
    tiny_model, tmp_path, bits, capsys
):
    given = {} if bits is None else {"bits": bits}
    run = train(sums(12), model=tiny_model, out=tmp_path / "run", max_steps=2, **given)
    weights = run.record["model"]["weights"]
    assert run.settings["bits"] == weights["bits"] == (bits or 4)
    assert ("bits_per_quantised_weight" in weights) == (weights["bits"] == 4)
    assert f"{weights['bits']}-bit weights" in capsys.readouterr().err
    model, tokenizer = run.load()
    assert bits_of(model) == weights["bits"]
    assert complete(model, tokenizer, [{"role": "user", "content": "1 plus 1?"}], max_new_tokens=2)


def test_the_first_fit_of_four_bits_says_what_it_does_how_long_and_how_to_skip_it(
    tiny_model, tmp_path, capsys
):
    model = shutil.copytree(tiny_model, tmp_path / "new")
    for run in ("first", "second"):
        train(sums(12), model=model, out=tmp_path / run, max_steps=1, held_out=0)
        lines = capsys.readouterr().err.splitlines()
        fitting = [line for line in lines if "fitt" in line]
        if run == "second":
            assert not fitting
        else:
            assert "bits=16 skips it" in fitting[0]
            assert re.search(
                r"fitting takes about [\d.]+ m?s: the first of 2 blocks took", fitting[1]
            )


def test_a_quantised_run_is_measured_against_the_quantised_model(tiny_model, tmp_path):
    rows = save_chats(tmp_path / "rows.jsonl", 6)
    run = train(sums(12), model=tiny_model, out=tmp_path / "run", max_steps=2, held_out=0)
    base, tuned, *_ = compare(run, rows)
    assert base.loss.value == evaluate(load(tiny_model, bits=4), rows).loss.value
    assert tuned.loss.value != base.loss.value


def test_a_model_object_keeps_its_bits(tiny_model, tmp_path):
    model, tokenizer = load(tiny_model, bits=16)
    with pytest.raises(ConfigError, match="bits is 4, but the weights of the model have 16"):
        train(sums(8), model=model, tokenizer=tokenizer, out=tmp_path / "a", bits=4)
    run = train(sums(8), model=model, tokenizer=tokenizer, out=tmp_path / "b", max_steps=1)
    assert run.settings["bits"] == 16


def test_a_run_resumes_in_the_same_bits_only(tiny_model, tmp_path):
    rows = save_chats(tmp_path / "rows.jsonl", 12)
    whole = train(rows, model=tiny_model, out=tmp_path / "whole", max_steps=4, save_every=2)
    half = train(rows, model=tiny_model, out=tmp_path / "half", max_steps=4, save_every=2)
    half.update(status="interrupted")
    (half.adapter_folder / "adapter_model.safetensors").unlink()
    last = max(half.checkpoints_folder.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    for file in sorted(last.rglob("*"), reverse=True):
        file.unlink()
    last.rmdir()
    model, tokenizer = load(tiny_model, bits=16)
    with pytest.raises(UnsupportedError, match=r"started with weights in 4 bits .* them in 16"):
        train(rows, model=model, tokenizer=tokenizer, resume=half.path)
    resumed = train(resume=half.path)
    assert adapter(resumed).keys() == adapter(whole).keys()
    assert all(torch.equal(t, adapter(whole)[n]) for n, t in adapter(resumed).items())


def adapter(run: Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.adapter_folder / "adapter_model.safetensors")
