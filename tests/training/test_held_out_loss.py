"""A loss is a mean over labelled tokens, however many rows are computed at once."""

import json

import pytest
import torch
from transformers import AutoTokenizer, Qwen3_5ForCausalLM, Qwen3_5TextConfig, set_seed

import strop
from strop.data import encode_all
from strop.evaluation.scoring import score
from strop.runs.run_data import rows_of_run
from tests.tiny.saved import QUICK, in_float32, sums


def uneven(count):
    """Return sums whose answers have one word or many."""
    rows = sums(count)
    for i, row in enumerate(rows):
        row["messages"][1]["content"] += " and that is all" * (3 * (i % 3))
    return rows


def hybrid(folder):
    """Return a tiny Qwen3.5, whose layers carry a state from token to token, and the tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    set_seed(0)
    config = Qwen3_5TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, linear_num_key_heads=2,
        linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"], pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return {"model": Qwen3_5ForCausalLM(config).float(), "tokenizer": tokenizer}


def losses(run):
    """Return what a run measured, by step."""
    held_out = [x["held_out_loss"] for x in run.log if "held_out_loss" in x]
    return held_out, [x["loss"] for x in run.log if "loss" in x]


@pytest.mark.parametrize("kind", ["llama", "qwen3.5"])
def test_losses_are_those_of_an_evaluation_with_and_without_acceleration(
    kind, tiny_model, tmp_path
):
    data, measured = tmp_path / "rows.jsonl", []
    data.write_text("".join(json.dumps(row) + "\n" for row in uneven(24)))
    for accelerate in (True, False):
        given = in_float32(tiny_model) if kind == "llama" else hybrid(tiny_model)
        settings = QUICK | {"held_out": 8, "accelerate": accelerate}
        run = strop.train(data, **given, out=tmp_path / f"{accelerate}", **settings)
        held_out = rows_of_run(run.record)[1]
        model, tokenizer = run.load()
        examples = [(e.ids, e.labels) for e in encode_all(held_out, tokenizer)]
        alone = torch.cat([score(model, [one])[0] for one in examples])
        measured.append(losses(run))
        assert measured[-1][0][-1] == pytest.approx(-float(alone.mean()), rel=1e-4)
    assert measured[0][0] == pytest.approx(measured[1][0], rel=1e-4)
    assert measured[0][1] == pytest.approx(measured[1][1], rel=1e-4)
