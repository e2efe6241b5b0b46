"""A run trains, keeps, loads and exports the model and the tokenizer that it was given."""

import copy
import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

import strop
from strop.core.errors import ConfigError, DataError
from strop.data import encode, read
from strop.evaluation import compare, evaluate
from strop.exporting.safetensors.adapter import over_base
from strop.models.identity import tokenizer_identity
from strop.serving.served import find
from strop.training import Run
from tests.tiny.saved import QUICK, save_chats, save_tiny_llama, sums

OTHER = (
    "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
ROWS = sums(10)
BITS_32 = QUICK | {"bits": 32}


def load_tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def with_template(t):
    t.chat_template = OTHER


def with_several_templates(t):
    t.chat_template = {"default": OTHER, "tool_use": "{{ tools }}" + OTHER}


def with_normalizer(t):
    t.backend_tokenizer.normalizer = normalizers.Lowercase()


def with_other_end(t):
    t.eos_token = "<|start|>"


def with_pad_as_end(t):
    t.pad_token = t.eos_token


def with_left_padding(t):
    t.padding_side = "left"


CHANGES = [
    with_template,
    with_several_templates,
    with_normalizer,
    with_other_end,
    with_pad_as_end,
    with_left_padding,
]


def shown_ids(tokenizer):
    return [encode(row, tokenizer).ids for row in read(ROWS).rows]


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_keeps_the_tokenizer_it_was_given(change, tmp_path, tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    change(tokenizer)
    given = copy.deepcopy(tokenizer)
    run = strop.train(ROWS, model=tiny_model, tokenizer=given, out=tmp_path / "run", **BITS_32)
    assert tokenizer_identity(given) == tokenizer_identity(tokenizer)
    model, loaded = run.load()
    beside = load_tokenizer(run.adapter_folder)
    for opened in (loaded, beside, load_tokenizer(run.assets_folder)):
        assert tokenizer_identity(opened) == tokenizer_identity(tokenizer)
        assert opened.padding_side == tokenizer.padding_side
        assert opened.pad_token == tokenizer.pad_token
        assert shown_ids(opened) == shown_ids(tokenizer)
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    measured = evaluate(run, ROWS).loss
    assert measured == evaluate((model, tokenizer), ROWS).loss
    (merged,) = strop.export(run, "merged", certified=False)
    assert tokenizer_identity(load_tokenizer(merged.path)) == tokenizer_identity(tokenizer)


def test_both_models_are_compared_with_the_tokenizer_of_training(tmp_path, tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = OTHER
    run = strop.train(ROWS, model=tiny_model, tokenizer=tokenizer, out=tmp_path / "run", **BITS_32)
    base, tuned, *_ = compare(run, ROWS)
    alone, _ = strop.load(tiny_model, bits=32)
    assert base.loss == evaluate((alone, tokenizer), ROWS).loss
    assert tuned.loss == evaluate(run, ROWS).loss


def with_a_new_token(model, tokenizer):
    tokenizer.add_tokens(["plus"])
    model.resize_token_embeddings(len(tokenizer))


def with_a_new_token_and_tied_head(model, tokenizer):
    model.config.tie_word_embeddings = True
    model.tie_weights()
    with_a_new_token(model, tokenizer)


@torch.no_grad()
def with_scaled_norm(model, tokenizer):
    model.model.layers[0].input_layernorm.weight.mul_(3)


@torch.no_grad()
def with_changed_data(model, tokenizer):
    model.model.embed_tokens.weight.data[7] += 1


def with_a_layer_less(model, tokenizer):
    del model.model.layers[1]
    model.config.num_hidden_layers = 1


def with_another_base_of_rotation(model, tokenizer):
    model.config.rope_parameters["rope_theta"] = 100.0
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def with_no_folder(model, tokenizer):
    model.name_or_path = model.config.name_or_path = ""


def with_a_merged_adapter(model, tokenizer):
    down = model.model.layers[0].mlp.down_proj
    down.weight.data += 0.01 * torch.randn_like(down.weight)


OBJECTS = [
    with_a_new_token,
    with_a_new_token_and_tied_head,
    with_scaled_norm,
    with_changed_data,
    with_a_layer_less,
    with_another_base_of_rotation,
    with_no_folder,
    with_a_merged_adapter,
]


@pytest.mark.parametrize(
    ("change", "bits"),
    [*((change, 32) for change in OBJECTS), (with_a_new_token, 16), (with_a_merged_adapter, 16)],
)
def test_a_run_saves_the_model_it_was_given(change, bits, tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=bits)
    change(model, tokenizer)
    given = {"model": model, "tokenizer": tokenizer}
    run = strop.train(ROWS, **given, out=tmp_path / "run", **QUICK)
    assert run.base_folder.is_dir()
    trained = evaluate((model, tokenizer), ROWS)
    loaded, saved = run.load()
    assert len(saved) == len(tokenizer)
    mine, theirs = model.state_dict(), loaded.get_base_model().state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert evaluate(run, ROWS).loss == trained.loss
    moved = Run(tmp_path / "moved")
    shutil.move(run.path, moved.path)
    assert evaluate(moved, ROWS).loss == trained.loss
    if bits == 32:
        (merged,) = strop.export(moved, "merged", certified=False)
        assert evaluate(strop.load(merged.path, bits=32), ROWS).loss.value == pytest.approx(
            trained.loss.value, abs=1e-6
        )


def test_the_adapter_of_a_resized_model_is_certified(tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    with_a_new_token(model, tokenizer)
    given = {"model": model, "tokenizer": tokenizer}
    run = strop.train(ROWS, **given, out=tmp_path / "run", **QUICK)
    (exported,) = strop.export(run, "adapter")
    assert exported.certificate.faults == ()
    here = over_base(exported.path, run.base_folder, tmp_path / "here")
    opened = AutoPeftModelForCausalLM.from_pretrained(here)
    assert opened.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_a_model_in_4_bits_with_a_changed_norm_is_saved(tmp_path, tiny_model):
    model, tokenizer = strop.load(save_tiny_llama(tmp_path / "wide"), bits=4)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    given = {"model": model, "tokenizer": tokenizer}
    run = strop.train(ROWS, **given, out=tmp_path / "run", **QUICK)
    assert evaluate(run, ROWS).loss == evaluate((model, tokenizer), ROWS).loss


def test_other_codes_of_a_model_in_4_bits_are_named(tmp_path, tiny_model, caplog):
    run = strop.train(ROWS, model=tiny_model, bits=4, out=tmp_path / "run", **QUICK)
    run.load()
    assert not caplog.records
    run.update(base={**run.record["base"], "codes": "0" * 64})
    run.load()
    assert "was trained on other 4-bit codes" in caplog.text


def test_a_tokenizer_without_offsets_is_refused_when_resumed_too(tmp_path, run_and_base):
    run, base = run_and_base
    run.update(status="interrupted")
    slow = ByT5Tokenizer()
    for given in ({"resume": run.path}, {"model": base, "out": tmp_path / "slow"}):
        with pytest.raises(DataError, match="no character offsets"):
            strop.train(ROWS if "out" in given else None, tokenizer=slow, quiet=True, **given)


def test_a_model_as_its_folder_has_it_is_not_written_again(tmp_path, tiny_model):
    for bits in (16, 32):
        model, tokenizer = strop.load(tiny_model, bits=bits)
        given = {"model": model, "tokenizer": tokenizer}
        run = strop.train(ROWS, **given, out=tmp_path / f"run-{bits}", **QUICK)
        assert not run.base_folder.exists()
        assert run.model == str(tiny_model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    run = strop.train(
        ROWS, model=plain, tokenizer=load_tokenizer(tiny_model), out=tmp_path / "plain", **QUICK
    )
    assert not run.base_folder.exists()


def test_changed_settings_of_generation_are_saved(tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    model.generation_config.eos_token_id = [2, 9]
    model.generation_config.temperature = 0.3
    given = {"model": model, "tokenizer": tokenizer}
    run = strop.train(ROWS, **given, out=tmp_path / "run", **QUICK)
    loaded, _ = run.load()
    assert loaded.generation_config.eos_token_id == [2, 9]
    assert loaded.generation_config.temperature == 0.3
    assert run.assets().ends == [2, 9]


def test_a_token_without_an_embedding_is_refused_by_name(tmp_path, tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.add_tokens(["plus"])
    with pytest.raises(ConfigError, match=r"'plus'; .*resize_token_embeddings\(260\)"):
        strop.train(ROWS, model=tiny_model, tokenizer=tokenizer, out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_model_that_has_an_adapter_is_refused(tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    given = {"model": model, "tokenizer": tokenizer}
    strop.train(ROWS, **given, out=tmp_path / "run", **QUICK)
    with pytest.raises(ConfigError, match="already has an adapter"):
        strop.train(ROWS, **given, out=tmp_path / "again", **QUICK)
    assert evaluate((model, tokenizer), ROWS).loss == evaluate(tmp_path / "run", ROWS).loss


@pytest.fixture
def run_and_base(tmp_path):
    base = save_tiny_llama(tmp_path / "base")
    data = save_chats(tmp_path / "sums.jsonl", 20)
    return strop.train(data, model=base, out=tmp_path / "run", **BITS_32), base


def other_weights(base):
    file = base / "model.safetensors"
    times = file.stat()
    tensors = {key: value.clone() for key, value in load_file(file).items()}
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    return times


def other_config(base):
    file = base / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))


STEPS = {
    "load": lambda run: run.load(),
    "evaluate": lambda run: evaluate(run, ROWS),
    "compare": lambda run: compare(run, ROWS),
    "export": lambda run: strop.export(run, "merged", certified=False),
    "serve": lambda run: find([str(run.path)]),
    "resume": lambda run: strop.train(resume=run.path, quiet=True),
}


@pytest.mark.parametrize("change", [other_weights, other_config])
def test_another_base_under_the_same_name_is_refused_by_every_step(change, run_and_base):
    run, base = run_and_base
    change(base)
    for step, take in STEPS.items():
        if step == "resume":
            run.update(status="interrupted")
        with pytest.raises(DataError, match="holds another model than the run") as refused:
            take(run)
        assert str(base) in str(refused.value)
        assert str(run.path) in str(refused.value)
        assert refused.value.args[0].count("SHA-256") == 1


def test_what_changes_no_number_of_a_base_is_let_pass(run_and_base):
    run, base = run_and_base
    before = evaluate(run, ROWS).loss
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = OTHER
    tokenizer.save_pretrained(base)
    shutil.copy(base / "model.safetensors", base / "copy")
    (base / "copy").rename(base / "model.safetensors")
    assert evaluate(run, ROWS).loss == before


def test_a_changed_file_of_the_saved_tokenizer_is_refused(run_and_base):
    run, base = run_and_base
    (run.assets_folder / "chat_template.jinja").write_text(OTHER)
    with pytest.raises(
        DataError, match=r"chat_template\.jinja is damaged: it is not as training wrote it"
    ):
        run.load()
    shutil.rmtree(run.assets_folder)
    run.load()  # the model's own folder says the same
    (base / "chat_template.jinja").write_text(OTHER)
    with pytest.raises(DataError, match="has lost the tokenizer it was trained with"):
        run.load()


def test_a_resumed_run_goes_on_with_what_it_was_given(tmp_path, tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = OTHER
    data = save_chats(tmp_path / "sums.jsonl", 20)
    given = {"model": tiny_model, "tokenizer": tokenizer, "out": tmp_path / "run"}
    run = strop.train(data, **given, **BITS_32)
    adapter = (run.adapter_folder / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(run.adapter_folder)
    run.update(status="interrupted")
    with pytest.raises(ConfigError, match="leave tokenizer out"):
        strop.train(resume=run.path, tokenizer=load_tokenizer(tiny_model), quiet=True)
    strop.train(resume=run.path, tokenizer=tokenizer, quiet=True)
    assert (run.adapter_folder / "adapter_model.safetensors").read_bytes() == adapter


def test_a_resumed_run_continues_with_the_model_it_saved(tmp_path, tiny_model):
    model, tokenizer = strop.load(tiny_model, bits=32)
    with_scaled_norm(model, tokenizer)
    data = save_chats(tmp_path / "sums.jsonl", 20)
    given = {"model": model, "tokenizer": tokenizer, "out": tmp_path / "run"}
    run = strop.train(data, **given, **BITS_32)
    adapter = (run.adapter_folder / "adapter_model.safetensors").read_bytes()
    for folder in (run.adapter_folder, run.checkpoints_folder):
        shutil.rmtree(folder)
    run.update(status="interrupted")
    plain, tokenizer = strop.load(tiny_model, bits=32)
    with pytest.raises(ConfigError, match=r"input_layernorm.weight .*leave model out"):
        strop.train(resume=run.path, model=plain, tokenizer=tokenizer, quiet=True)
    strop.train(resume=run.path, quiet=True)
    assert (run.adapter_folder / "adapter_model.safetensors").read_bytes() == adapter


@pytest.mark.parametrize("finished", [True, False])
def test_a_resume_for_more_epochs_names_the_way_on(finished, run_and_base):
    run, _ = run_and_base
    run.update(status="finished" if finished else "interrupted")
    with pytest.raises(
        ConfigError, match=r"strop export \S+ --to merged.*strop train DATA --model"
    ):
        strop.train(resume=run.path, epochs=40, quiet=True)
