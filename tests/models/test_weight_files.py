"""A model folder is read by the files that transformers loads; what has no place in it is named."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from strop.core.errors import DataError
from strop.models import load
from strop.models.files.weight_files import stored_tensors, weight_files
from tests.tiny.saved import save_kind, save_model

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a tiny Llama in one file."""
    return save_model("llama3", tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    """Return a copy of it."""
    return shutil.copytree(saved, tmp_path / "model")


def change(folder, tensors, name="model.safetensors"):
    save_file(tensors, folder / name, {"format": "pt"})


def change_json(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def sharded(folder):
    """Put the tensors into two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2],
             "model-00002-of-00002.safetensors": names[1::2]}  # fmt: skip
    for file, part in parts.items():
        change(folder, {name: tensors[name] for name in part}, file)
    (folder / "model.safetensors").unlink()
    places = {name: file for file, part in parts.items() for name in part}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return list(parts)


def weights_of(folder):
    return load(folder, bits=32)[0].state_dict()


def others(tensors):
    return {name: torch.randn_like(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "stray",
    ["consolidated.safetensors", "model.fp16.safetensors", "model-00001-of-00002.safetensors",
     "adapter_model.safetensors", "a.safetensors", "model-00003-of-00003.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("shards", [False, True])
def test_other_files_beside_the_models_own_are_not_read(stray, shards, folder):
    right = weights_of(folder)
    tensors = load_file(folder / "model.safetensors")
    own = sharded(folder) if shards else ["model.safetensors"]
    if stray not in own:
        change(folder, others(tensors) | {"norm.weight": torch.ones(2)}, stray)
    assert [file.name for file in weight_files(folder)] == own
    assert stored_tensors(folder).keys() == tensors.keys()
    assert all(torch.equal(value, right[name]) for name, value in weights_of(folder).items())


def test_the_file_that_the_configuration_names_is_the_one_that_is_loaded(folder):
    tensors = load_file(folder / "model.safetensors")
    change(folder, {name: tensor + 1 for name, tensor in tensors.items()}, "other.safetensors")
    change_json(folder / "config.json", transformers_weights="other.safetensors")
    assert [file.name for file in weight_files(folder)] == ["other.safetensors"]
    assert torch.equal(weights_of(folder)[Q], tensors[Q] + 1)


def half(folder):
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def without_index(folder):
    sharded(folder)
    (folder / "model.safetensors.index.json").unlink()


def index(text):
    def put(folder):
        sharded(folder)
        (folder / "model.safetensors.index.json").write_text(text)

    return put


def metas_alone(folder):
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")


def pointer(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
    (folder / "model.safetensors").write_text(text)


def cut(folder):
    for name in sharded(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def adapter(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "else/where"}')


def link_to_nothing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/none")


def setting(file, **values):
    return lambda folder: change_json(folder / file, **values)


def torn(file):
    return lambda folder: (folder / file).write_text("{")


SETTINGS = [
    (torn("tokenizer.json"), r"tokenizer\.json is damaged"),
    (torn("tokenizer_config.json"), r"tokenizer_config\.json is not valid JSON .* copy it again"),
    (torn("generation_config.json"), r"generation_config\.json is not valid JSON"),
    (setting("generation_config.json", eos_token_id="</s>"), "'</s>', which is no id of a token"),
    (setting("config.json", hidden_act="nope"), r"the config\.json in .*'nope'"),
    (setting("config.json", num_attention_heads=5), r"the config.* not a multiple of"),
    (setting("config.json", rope_scaling={"type": "magic"}), r"the config.*magic"),
    (setting("config.json", vocab_size=300), r"do not fit .*, 64\] in place of \[300, 64\]"),
]


@pytest.mark.parametrize(("damage", "text"), SETTINGS, ids=[text for _, text in SETTINGS])
def test_a_fault_of_the_settings_is_one_sentence_that_names_it(damage, text, folder):
    damage(folder)
    with pytest.raises(DataError, match=text):
        load(folder, bits=32)


FILES = {
    link_to_nothing: r"model\.safetensors is a link to \.\./blobs/none, which is not there",
    half: "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names",
    without_index: r"has 2 shards .* no model\.safetensors\.index\.json, which says what lies",
    index("{"): r"index\.json is not valid JSON .* copy it again",
    index("[1]"): r"index\.json holds no JSON object",
    index("{}"): "has no weight_map",
    index(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'
    ): r'no metadata, .* add "metadata": \{\}',
    index('{"metadata": {}, "weight_map": {"a": "../model.safetensors"}}'): "lies outside of",
    metas_alone: r"neither model\.safetensors nor .*; consolidated\.safetensors beside them",
    pointer: r"model\.safetensors \(\d+ bytes\) is a pointer of Git LFS .*run git lfs pull",
    cut: r"00001-of-00002\.safetensors .* damaged or cut short.*\n.*00002-of-00002\.safetensors",
    adapter: r"holds a model and also adapter_config\.json, .* unasked; move adapter_config\.json",
}


@pytest.mark.parametrize("damage", FILES, ids=lambda damage: damage.__name__)
def test_a_fault_of_the_files_is_one_sentence_that_names_it(damage, folder):
    damage(folder)
    with pytest.raises(DataError, match=FILES[damage]):
        load(folder)


def fp8(tensors):
    scale = tensors[Q].abs().amax() / 448
    tensors[Q] = (tensors[Q] / scale).to(torch.float8_e4m3fn)
    tensors[f"{Q}_scale_inv"] = scale.reshape(1, 1)


def int8(tensors):
    scale = tensors[Q].abs().amax(1) / 127
    tensors[Q] = (tensors[Q] / scale[:, None]).round().to(torch.int8)
    tensors[Q.replace("weight", "SCB")] = scale


def compressed(tensors):
    tensors[f"{Q}_scale"] = torch.ones(len(tensors[Q]), 1)


def gptq(tensors):
    layer = Q.removesuffix(".weight")
    weight = tensors.pop(Q)
    tensors[f"{layer}.qweight"] = torch.zeros(8, len(weight), dtype=torch.int32)
    tensors[f"{layer}.g_idx"] = torch.zeros(64, dtype=torch.int32)


def as_integers(dtype):
    def put(tensors):
        tensors[UP] = tensors[UP].half().view(torch.int16).to(dtype)

    return put


def further_layer(tensors):
    more = {k.replace("s.1.", "s.2."): v.clone() for k, v in tensors.items() if "s.1." in k}
    tensors.update(more)


def biases(tensors):
    tensors[Q.replace("weight", "bias")] = torch.ones(len(tensors[Q]))


def unknown(tensors):
    tensors["value_head.weight"] = torch.ones(1, 64)


TENSORS = {
    fp8: r"8-bit floats \(F8_E4M3\) in place of 1 weights .*q_proj.*; .*1 scales .*_scale_inv",
    int8: r"integers \(I8\) in place of 1 weights .*; .* hold 1 scales .*q_proj\.SCB",
    compressed: r"hold 1 scales of weights in few bits .*weight_scale",
    gptq: r"hold 2 scales .*qweight\), .*; .* lack 1 tensors",
    as_integers(torch.int16): r"integers \(I16\) in place of 1 weights .*up_proj",
    as_integers(torch.int64): r"integers \(I64\) in place of 1 weights .*up_proj",
    as_integers(torch.bool): r"integers \(BOOL\) in place of 1 weights .*up_proj",
    further_layer: r"hold 9 tensors that .* no place for \(model\.layers\.2\..* and more",
    biases: r"hold 1 tensors that .* no place for \(.*q_proj\.bias\)",
    unknown: r"no place for \(value_head\.weight\)",
}


@pytest.mark.parametrize("damage", TENSORS, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("bits", [4, 16])
def test_tensors_that_are_no_weights_of_the_model_are_named_before_anything(
    damage, bits, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    change(folder, tensors)
    with pytest.raises(DataError, match=TENSORS[damage]):
        load(folder, bits=bits)


def test_numbers_that_old_versions_stored_are_not_worth_a_word(folder, caplog):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    change(folder, tensors)
    weights_of(folder)
    assert not caplog.records


def test_parts_that_transformers_leaves_out_are_named_in_one_line(tmp_path, caplog):
    folder = save_kind("Ernie4_5_MoeConfig", tmp_path / "model", moe_num_experts=2, moe_k=1)
    tensors = load_file(folder / "model.safetensors")
    change(folder, tensors | {"mtp.fc.weight": torch.ones(64, 128)})
    weights_of(folder)
    assert "holds 1 tensors of parts that Ernie4_5_MoeForCausalLM leaves out (mtp.fc" in caplog.text


def test_a_head_that_is_not_the_embedding_is_used_though_the_configuration_ties_them(
    folder, caplog
):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["model.embed_tokens.weight"])
    change(folder, tensors)
    change_json(folder / "config.json", tie_word_embeddings=True)
    model, _ = load(folder, bits=32)
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])
    assert not model.config.tie_word_embeddings
    assert "a head of its own with other values" in caplog.text


def test_a_head_that_is_missing_though_nothing_ties_it_says_what_to_set(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    change(folder, tensors)
    change_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(
        DataError, match=r"lack 1 tensors .*set tie_word_embeddings in config\.json"
    ):
        load(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
def test_code_on_the_hub_that_a_configuration_names_is_left_out(folder, key, caplog):
    change_json(folder / "config.json", **{key: "owner/kernel"})
    assert load(folder, bits=32)[0].config._attn_implementation == "sdpa"
    assert "asks for code from owner/kernel, which is not fetched" in caplog.text
