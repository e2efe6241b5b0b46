"""Starts of an adapter: trained as PEFT's own, exact when merged, resumed to the same bytes."""

import pytest
import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model, preprocess_loraga
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import strop
from strop.core.errors import ConfigError
from strop.models.lora.config import lora_config
from strop.models.lora.gradient_start import begin_by_gradient
from strop.models.lora.starts import begin_mirrored, linear_layers, mirrored_fields
from strop.planning.settings import Settings
from tests.tiny.both_ways import trained_both_ways
from tests.tiny.saved import (
    QUICK,
    assert_same_adapter,
    resumed_copy,
    save_chats,
    sums,
)

LAYERS = ["q_proj", "down_proj"]


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_with_a_mirror_trains_as_the_one_of_peft(tiny_model, start, rslora):
    ids = torch.randint(5, 200, (2, 12), generator=torch.Generator().manual_seed(0))

    def trained(model):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
        with torch.no_grad():
            return model(input_ids=ids).logits

    def base():
        return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    theirs = get_peft_model(
        base(),
        LoraConfig(
            r=4, lora_alpha=8, target_modules=LAYERS, init_lora_weights=start, use_rslora=rslora
        ),
    )
    fields = mirrored_fields(4, 8, {}, rslora=rslora)
    rank, alpha = fields.pop("r"), fields.pop("lora_alpha")
    ours = get_peft_model(base(), lora_config(rank, alpha, LAYERS, use_rslora=rslora))
    begin_mirrored(ours, start)
    with torch.no_grad():
        torch.testing.assert_close(ours(input_ids=ids).logits, base()(input_ids=ids).logits)
    torch.testing.assert_close(trained(ours), trained(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # PEFT's
@pytest.mark.parametrize("rslora", [False, True])
def test_a_start_at_the_gradient_is_that_of_peft(tiny_model, rslora):
    rng = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 200, (n,), generator=rng).tolist() for n in (12, 20, 9)]
    labels = [[-100] * 3 + row[3:] for row in rows]

    def base():
        return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=LAYERS,
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(),
        use_rslora=rslora,
    )
    model = base()

    def steps():
        for row, of in zip(rows, labels, strict=True):
            model(input_ids=torch.tensor([row]), labels=torch.tensor([of])).loss.backward()

    preprocess_loraga(model, config, steps)
    torch.manual_seed(0)
    theirs = get_peft_model(model, config)
    fields = mirrored_fields(4, 8, {}, rslora=rslora)
    rank, alpha = fields.pop("r"), fields.pop("lora_alpha")
    ours = get_peft_model(base(), lora_config(rank, alpha, LAYERS, use_rslora=rslora))
    begin_by_gradient(ours, rows, labels)
    assert ours.training == theirs.training
    for (name, layer), (_, other) in zip(linear_layers(ours), linear_layers(theirs), strict=True):
        a, b = layer.lora_A["default"].weight[:4], layer.lora_B["default"].weight[:, :4]
        for factor, expected in (
            (a, other.lora_A["default"].weight),
            (b, other.lora_B["default"].weight),
        ):  # the sign of each direction is free
            torch.testing.assert_close(
                factor.abs(),
                expected.abs(),
                rtol=1e-3,
                atol=1e-3 * float(expected.detach().abs().max()),
                msg=name,
            )
    ids = torch.tensor([rows[0]])
    with torch.no_grad():
        torch.testing.assert_close(ours(input_ids=ids).logits, base()(input_ids=ids).logits)


def test_a_start_at_the_gradient_needs_answers_that_are_imitated():
    with pytest.raises(ConfigError, match="lora_ga begins at the gradient of answers"):
        Settings.read({"method": "dpo", "lora_init": "lora_ga"})


@pytest.mark.slow
@pytest.mark.parametrize("start", ["pissa", "olora", "lora_ga", "eva", "gaussian", "orthogonal"])
def test_a_start_is_trained_exactly_and_what_is_merged_is_what_was_trained(
    tmp_path, tiny_model, start
):
    settings = {**QUICK, "learning_rate": 1e-3, "rank": 4, "lora_init": start}
    ours = trained_both_ways(sums(16), tiny_model, tmp_path, **settings)
    (exported,) = strop.export(ours, "merged")
    assert exported.certificate.passed
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, ours.adapter_folder)
    merged = AutoModelForCausalLM.from_pretrained(exported.path, dtype=torch.float32)
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            merged(input_ids=ids).logits, tuned(input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_a_start_is_resumed_to_the_same_bytes_and_its_mirror_stays(tmp_path, tiny_model):
    data = save_chats(tmp_path / "sums.jsonl", 12)
    settings = {**QUICK, "max_steps": 4, "save_every": 2, "model": str(tiny_model), "rank": 4}
    whole = strop.train(data, out=tmp_path / "whole", lora_init="pissa", **settings)
    assert_same_adapter(whole, resumed_copy(whole, tmp_path / "half", 4))
    first = load_file(whole.checkpoints_folder / "checkpoint-2" / "adapter_model.safetensors")
    for name, tensor in load_file(whole.adapter_folder / "adapter_model.safetensors").items():
        half = tensor[4:] if "lora_A" in name else tensor[:, 4:]
        before = first[name][4:] if "lora_A" in name else first[name][:, 4:]
        assert torch.equal(half, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_init": "pissa", "weight_decay": 0.1}, "weight_decay would take away"),
        ({"lora_init": "loftq"}, "quantization_error"),
    ],
)
def test_starts_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


def test_a_rank_beyond_a_weight_s_is_refused(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match="has no so many principal parts"):
        strop.train(
            sums(8), model=str(tiny_model), out=tmp_path / "a", lora_init="pissa", rank=64, **QUICK
        )
