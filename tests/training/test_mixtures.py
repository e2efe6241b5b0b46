"""Mixtures of experts are trained by one command: experts adapted, routers balanced."""

import json

import pytest
from safetensors import safe_open

import strop
from strop.core.errors import ConfigError
from tests import tiny
from tests.tiny.saved import chats, save_kind

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT says of patterns it used that it did not

SETTINGS = {"max_steps": 8, "held_out": 4, "learning_rate": 2e-4, "bits": 32, "quiet": True}


def saved(family, folder):
    name, special = tiny.MIXTURES[family]
    other = ("rope_parameters", "layer_types", "mlp_only_layers", "sliding_window")
    return save_kind(name, folder, **{k: v for k, v in special.items() if k not in other})


def trained(family, tmp_path, **settings):
    folder = tmp_path / "model"
    if not folder.exists():
        saved(family, folder)
    out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return strop.train(chats(24), model=str(folder), out=out, **(SETTINGS | settings))


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_training_is_the_same_with_and_without_acceleration(family, tmp_path):
    ours, theirs = (trained(family, tmp_path, accelerate=on) for on in (True, False))
    assert len(ours.log) == len(theirs.log)
    for a, b in zip(ours.log, theirs.log, strict=True):
        for name in {"loss", "grad_norm", "router_loss", "held_out_loss"} & b.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4)
    assert ours.log[-2]["router_loss"] >= 1  # 1 is a balanced one, times experts of a token
    with safe_open(ours.adapter_folder / "adapter_model.safetensors", "pt") as tensors:
        assert any(".experts.base_layer.lora_A" in name for name in tensors.keys())  # noqa: SIM118
    config = json.loads((ours.adapter_folder / "adapter_config.json").read_text())
    assert config["target_parameters"] == sorted(config["target_parameters"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"dropout": 0.1}, r"stacked experts \(experts.down_proj, .* takes no dropout"),
        ({"use_dora": True}, "takes no use_dora"),
        ({"target_modules": "gate_proj"}, "its stacked experts experts.down_proj, experts.gate"),
    ],
)
def test_what_experts_do_not_take_is_refused_with_what_does(settings, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        trained("mixtral", tmp_path, **settings)
