"""Models whose files name tensors otherwise than memory does are written as their base has them."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from strop.core.errors import DataError
from strop.exporting.safetensors.merged import Merged
from strop.exporting.weights.base_weights import bases
from strop.exporting.weights.tuned import TunedWeights
from strop.models import load
from strop.models.assets import load_assets
from strop.models.lora.unmergeable import unmergeable
from tests.tiny.saved import COMMON, save_kind, save_random, tokenizer

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16}


def mixtral(folder):
    return save_kind("MixtralConfig", folder, num_local_experts=4, num_experts_per_tok=2)


def qwen3_moe(folder):
    return save_kind("Qwen3MoeConfig", folder, **EXPERTS)


def olmoe(folder):
    return save_kind("OlmoeConfig", folder, num_experts=4, num_experts_per_tok=2)


def gpt_oss(folder):
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}
    return save_kind("GptOssConfig", folder, **sizes, intermediate_size=64)


def granite_moe(folder):
    return save_kind("GraniteMoeConfig", folder, num_local_experts=4, num_experts_per_tok=2)


def gpt2(folder):
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    return save_kind("GPT2Config", folder, **sizes)


def gpt2_of_the_hub(folder):
    tensors = load_file(gpt2(folder) / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 256, 256).tril() for i in range(2)}
    save_file(bare | masks, folder / "model.safetensors", {"format": "pt"})
    return folder


def without_prefix(folder):
    """Save a mixture as its base class does: without the head, which is tied, and its prefix."""
    tensors = load_file(mixtral_tied(folder) / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    return folder


def mixtral_tied(folder):
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": True}
    return save_kind("MixtralConfig", folder, **sizes)


def gemma3_with_images(folder):
    order = [*["sliding_attention"] * 5, "full_attention"]
    size = len(tokenizer())
    text = COMMON | {"vocab_size": size + 3, "num_hidden_layers": 6, "head_dim": 16,
                     "layer_types": order, "query_pre_attn_scalar": 16}  # fmt: skip
    images = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text, vision_config=images, mm_tokens_per_image=4, image_token_index=size,
        boi_token_index=size + 1, eoi_token_index=size + 2, eos_token_id=2,
    )  # fmt: skip
    return save_random(config, folder)


def with_untied_head(folder):
    """Save a model whose config.json ties what its file does not."""
    save_kind("LlamaConfig", folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


KINDS = (mixtral, qwen3_moe, olmoe, gpt_oss, granite_moe, gpt2, gpt2_of_the_hub, without_prefix,
         gemma3_with_images, with_untied_head)  # fmt: skip


def adapted(folder, out, **settings):
    """Save an adapter of random factors on the model in a folder; return the merged model."""
    model, _ = load(folder, bits=32)
    torch.manual_seed(1)
    named = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**(named | settings)))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.1)
    tuned.save_pretrained(out, save_embedding_layers=False)
    model, _ = load(folder, bits=32)
    return PeftModel.from_pretrained(model, out).merge_and_unload()


def merged(folder, out):
    """Write the adapter beside `out` into a folder of its own, as an export does."""
    assets = load_assets(folder)
    base = next(iter(bases({"bits": 32, "dtype": "float32"}, assets).values()))
    weights = TunedWeights(base, out.parent / "adapter")
    Merged(weights, assets, None).write(out, lambda size: None)


@pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_merged_folder_has_the_bases_names_and_pefts_weights(kind, tmp_path):
    folder = kind(tmp_path / "model")
    right = adapted(folder, tmp_path / "adapter")
    merged(folder, tmp_path / "merged")
    base = load_file(folder / "model.safetensors")
    written = load_file(tmp_path / "merged/model.safetensors")
    names = {name for name in base if not name.endswith(".attn.bias")}
    assert written.keys() == names
    assert all(written[name].shape == base[name].shape for name in names)
    loaded = load(tmp_path / "merged", bits=32)[0].state_dict()
    state = right.state_dict()
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(loaded[name], value)
    changed = [name for name in names if not torch.equal(written[name], base[name])]
    assert changed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("tied", [False, True])
def test_embedding_and_head_are_merged_unless_they_are_one(target, tied, tmp_path):
    folder = save_kind("LlamaConfig", tmp_path / "model", tie_word_embeddings=tied)
    right = adapted(folder, tmp_path / "adapter", target_modules=[target])
    if tied:
        with pytest.raises(DataError, match=r"which is tied to .* out of target_modules"):
            merged(folder, tmp_path / "merged")
        return
    merged(folder, tmp_path / "merged")
    loaded = load(tmp_path / "merged", bits=32)[0].state_dict()
    for name, value in right.state_dict().items():
        torch.testing.assert_close(loaded[name], value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_what_no_export_takes_is_known_before_training(target, tmp_path):
    def refusals(tied, target):
        folder = save_kind("LlamaConfig", tmp_path / f"{tied}", tie_word_embeddings=tied)
        lora = LoraConfig(r=2, target_modules=[target, "q_proj"], task_type="CAUSAL_LM")
        return [*unmergeable(get_peft_model(load(folder, bits=32)[0], lora))]

    assert refusals(False, target) == []
    assert refusals(True, "v_proj") == []
    (sentence,) = refusals(True, target)
    assert "no export can merge" in sentence
    assert f"{target}.weight is tied to" in sentence


def test_config_and_file_at_odds_are_written_as_what_was_loaded(tmp_path):
    folder = with_untied_head(tmp_path / "model")
    adapted(folder, tmp_path / "adapter")
    merged(folder, tmp_path / "merged")
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is False
