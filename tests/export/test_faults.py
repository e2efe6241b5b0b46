"""Faults put into exported models on purpose: the certificate fails each and names the cause."""

import json
import re
import shutil

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from strop.exporting import export
from strop.exporting.certify.certificate import judged, thresholds
from strop.exporting.certify.certify import certify
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look as look_llama_cpp
from strop.exporting.certify.open_transformers import look as look_transformers
from strop.exporting.certify.record import record_reference
from strop.exporting.certify.reference import ReferenceOutputs
from tests.tiny.saved import trained

pytestmark = pytest.mark.slow  # they train, export and open models

LAYER = "model.layers.1.self_attn.o_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of a tiny run's exports and of what its trained model says."""
    folder = tmp_path_factory.mktemp("faults")
    run = trained("llama3", folder)
    assets = run.assets()
    record_reference(run, assets).save(folder / "work")
    export(run, "adapter", "merged", "gguf", out=folder, certified=False)
    # what is published names its base as others find it; here it lies in a folder
    base = str(assets.folder.absolute())
    change_json(folder / "adapter" / "adapter_config.json", base_model_name_or_path=base)
    return folder


def faults(exported, kind, opened):
    """Return what is wrong with an export, looked at in this process."""
    out = exported / "findings.json"
    if kind == "gguf":
        report(exported / "work", out, lambda *args: look_llama_cpp(opened / "model.gguf", *args))
    else:
        report(exported / "work", out, lambda *args: look_transformers(kind, opened, *args))
    return judged(Findings.open(out), thresholds({"gguf": "f16"}.get(kind, "float32")))


def change_json(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def change_weights(folder, change, name="model.safetensors"):
    tensors = load_file(folder / name)
    change(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name, {"format": "pt"})


def change_adapter(folder, change):
    change_weights(folder, change, "adapter_model.safetensors")


def swap_a_and_b(tensors):
    a, b = (f"base_model.model.{LAYER.removesuffix('.weight')}.lora_{x}.weight" for x in "AB")
    tensors[a], tensors[b] = tensors[b].T.clone(), tensors[a].T.clone()


def without_update(tensors):
    for key in [k for k in tensors if "layers.1.mlp.down_proj.lora_B" in k]:
        tensors[key] = torch.zeros_like(tensors[key])


def untie(folder):
    change_json(folder / "config.json", tie_word_embeddings=False)
    change_weights(
        folder,
        lambda t: t.update({"lm_head.weight": torch.randn_like(t["model.embed_tokens.weight"])}),
    )


def transpose(tensors):
    tensors[LAYER] = tensors[LAYER].T


def exchange(tensors):
    gate = UP.replace("up_proj", "gate_proj")
    tensors[UP], tensors[gate] = tensors[gate], tensors[UP]


def rotate_other_halves(tensors):
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].view(4, 2, 8, 64).transpose(1, 2).reshape(64, 64)


def no_number(tensors):
    tensors[UP][3, 3] = float("nan")


def truncate(file):
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 3 // 4)


def other_vocabulary(folder):
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["t"] = vocabulary["t"], vocabulary["a"]
    file.write_text(json.dumps(tokenizer))


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def twice_begun(folder):
    file = folder / "chat_template.jinja"
    file.write_text("{{ bos_token }}{{ bos_token }}" + file.read_text())


def gguf_tensor(name, change):
    def edit(folder):
        reader = GGUFReader(folder / "model.gguf", "r+")
        data = next(t for t in reader.tensors if t.name == name).data
        data[:] = change(torch.from_numpy(data.copy())).numpy()
        reader.data.flush()

    return edit


def gguf_field(name, value):
    def edit(folder):
        reader = GGUFReader(folder / "model.gguf", "r+")
        field = reader.get_field(name)
        field.parts[field.data[0]][0] = value
        reader.data.flush()

    return edit


def halves_together(rows):
    return rows.view(4, 8, 2, 64).transpose(1, 2).reshape(64, 64)


MERGED, ADAPTER = "merged", "adapter"
FAULTS = {
    "wrong alpha": (
        ADAPTER,
        lambda f: change_json(f / "adapter_config.json", lora_alpha=64),
        r"carries 2 times its update: alpha",
    ),
    "rank-stabilised scale": (
        ADAPTER,
        lambda f: change_json(f / "adapter_config.json", use_rslora=True),
        r"carries 4 times its update",
    ),
    "swapped A and B": (
        ADAPTER,
        lambda f: change_adapter(f, swap_a_and_b),
        r"layers.1.self_attn.o_proj.weight carries its update with A and B swapped",
    ),
    "no adapter on one layer": (
        ADAPTER,
        lambda f: change_adapter(f, without_update),
        r"layers.1.mlp.down_proj.weight is the base's: the adapter's update is missing",
    ),
    "truncated adapter": (
        ADAPTER,
        lambda f: truncate(f / "adapter_model.safetensors"),
        r"cannot be opened",
    ),
    "untied head": (MERGED, untie, r"lm_head.weight differs|tie_word_embeddings False"),
    "lost template": (
        MERGED,
        lambda f: (f / "chat_template.jinja").unlink(),
        r"the chat template is lost",
    ),
    "other template": (
        MERGED,
        template("{% for m in messages %}{{ m['content'] }}{% endfor %}"),
        r"a chat rendered by its template becomes other tokens",
    ),
    "begun twice": (MERGED, twice_begun, r"becomes other tokens|begin token twice"),
    "wrong end token": (
        MERGED,
        lambda f: change_json(f / "generation_config.json", eos_token_id=0),
        r"generation does not stop at the end token 2",
    ),
    "transposed tensor": (
        MERGED,
        lambda f: change_weights(f, transpose),
        r"layers.1.self_attn.o_proj.weight is transposed",
    ),
    "exchanged tensors": (
        MERGED,
        lambda f: change_weights(f, exchange),
        r"up_proj.weight holds the weight of model.layers.0.mlp.gate_proj.weight",
    ),
    "rotary halves": (
        MERGED,
        lambda f: change_weights(f, rotate_other_halves),
        r"q_proj.weight has the rotary halves of its heads in the other order",
    ),
    "a missing tensor": (
        MERGED,
        lambda f: change_weights(f, lambda t: t.pop(UP)),
        r"the folder lacks model.layers.0.mlp.up_proj.weight",
    ),
    "no number": (
        MERGED,
        lambda f: change_weights(f, no_number),
        r"up_proj.weight holds values that are no numbers",
    ),
    "truncated shard": (
        MERGED,
        lambda f: truncate(f / "model.safetensors"),
        r"cannot be opened",
    ),
    "other vocabulary": (MERGED, other_vocabulary, r"the text .* becomes other tokens"),
    "other rotary base": (
        MERGED,
        lambda f: change_json(
            f / "config.json",
            rope_parameters={
                **json.loads((f / "config.json").read_text())["rope_parameters"],
                "rope_theta": 1e6,
            },
        ),
        r"config.json says rope_parameters",
    ),
    "GGUF: rotary halves": (
        "gguf",
        gguf_tensor("blk.0.attn_q.weight", halves_together),
        r"q_proj.weight has the rotary halves of its heads in the other order",
    ),
    "GGUF: transposed": (
        "gguf",
        gguf_tensor("blk.1.attn_output.weight", lambda rows: rows.T.contiguous()),
        r"layers.1.self_attn.o_proj.weight is transposed",
    ),
    "GGUF: norm without its offset": (
        "gguf",
        gguf_tensor("blk.0.attn_norm.weight", lambda values: values + 1),
        r"input_layernorm.weight differs from the trained weight",
    ),
    "GGUF: double begin": (
        "gguf",
        gguf_field("tokenizer.ggml.add_bos_token", True),
        r"becomes other tokens|begin token twice",
    ),
    "GGUF: wrong end token": (
        "gguf",
        gguf_field("tokenizer.ggml.eos_token_id", 0),
        r"the file names 0 as end token",
    ),
    "GGUF: other rotary base": (
        "gguf",
        gguf_field("llama.rope.freq_base", 1e6),
        r"the file says llama.rope.freq_base 1e\+06",
    ),
    "GGUF: truncated": ("gguf", lambda f: truncate(f / "model.gguf"), r"cannot be opened"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_certificate_fails_and_names_the_cause(exported, name, tmp_path):
    kind, break_it, cause = FAULTS[name]
    broken = tmp_path / "broken"
    shutil.copytree(exported / ("gguf-f16" if kind == "gguf" else kind), broken)
    break_it(broken)
    named = faults(exported, kind, broken)
    assert named
    assert any(re.search(cause, fault) for fault in named), named


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf"])
def test_without_a_fault_it_passes(exported, kind):
    assert faults(exported, kind, exported / ("gguf-f16" if kind == "gguf" else kind)) == ()


def test_another_runs_export_under_the_same_name_fails(exported, tmp_path):
    other = trained("llama3", tmp_path, learning_rate=3e-3)
    export(other, "merged", out=tmp_path, certified=False)
    named = faults(exported, "merged", tmp_path / "merged")
    assert any("update" in fault or "differs from the trained weight" in fault for fault in named)


def test_a_file_changed_after_its_certificate_is_named(exported, tmp_path):
    folder = tmp_path / "merged"
    shutil.copytree(exported / "merged", folder)
    reference = ReferenceOutputs.open(exported / "work")
    certificate = certify(folder, "merged", "float32", folder, exported / "work", reference)
    assert certificate.passed
    assert certificate.changed_files(folder) == []
    change_weights(folder, transpose)
    assert certificate.changed_files(folder) == ["model.safetensors"]


def test_a_process_that_dies_is_a_fault(exported, tmp_path):
    folder = tmp_path / "gguf"
    shutil.copytree(exported / "gguf-f16", folder)
    (folder / "model.gguf").write_bytes(b"GGUF" + b"\xff" * 4096)
    reference = ReferenceOutputs.open(exported / "work")
    certificate = certify(
        folder, "gguf", "f16", folder / "model.gguf", exported / "work", reference
    )
    assert not certificate.passed
    assert "is not certified" in certificate.sentence
