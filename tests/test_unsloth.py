"""Unsloth's calls, as its notebooks make them, on a tiny model."""

import inspect
import json

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from strop.compat import unsloth
from strop.compat.unsloth import (
    FastLanguageModel,
    FastVisionModel,
    SFTConfig,
    SFTTrainer,
    get_chat_template,
    standardize_sharegpt,
    to_sharegpt,
    train_on_responses_only,
)
from strop.compat.unsloth.chat_templates import construct_chat_template
from strop.compat.unsloth.responses import marks_of
from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.core.tokens import IGNORE_INDEX
from tests.tiny.saved import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model("llama", tmp_path_factory.mktemp("llama") / "tiny")


@pytest.fixture
def opened(folder):
    return FastLanguageModel.from_pretrained(str(folder), max_seq_length=128, load_in_4bit=False)


@pytest.fixture
def adapted(opened):
    model, tokenizer = opened
    return FastLanguageModel.get_peft_model(model, r=4, lora_alpha=8), tokenizer


def chats(count=8):
    turns = [("human", "one two three"), ("gpt", "three"), ("human", "hill rain"), ("gpt", "rain")]
    chat = [{"from": role, "value": text} for role, text in turns]
    return Dataset.from_list([{"conversations": chat} for _ in range(count)])


def texts(tokenizer):
    rows = standardize_sharegpt(chats())
    return rows.map(
        lambda row: {"text": tokenizer.apply_chat_template(row["conversations"], tokenize=False)}
    )


def trainer_of(model, tokenizer, folder, rows, **settings):
    return SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        train_dataset=rows,
        dataset_text_field="text",
        max_seq_length=96,
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=2,
            per_device_train_batch_size=2,
            optim="adamw_8bit",
            warmup_ratio=0.1,
            report_to="none",
            **settings,
        ),
    )


def test_a_notebook_of_sft_trains_saves_and_opens_again(adapted, tmp_path):
    model, tokenizer = adapted
    trainer = trainer_of(model, tokenizer, tmp_path, texts(tokenizer))
    assert trainer.args.max_length == 96
    trainer = train_on_responses_only(trainer)
    row = trainer.train_dataset[0]
    learned = [i for i in row["labels"] if i != IGNORE_INDEX]
    assert tokenizer.decode(learned) == "three<|end|>\nrain<|end|>"
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] > 0
    assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)

    model.save_pretrained(tmp_path / "lora")
    again, _ = FastLanguageModel.from_pretrained(str(tmp_path / "lora"), load_in_4bit=False)
    model.save_pretrained_merged(tmp_path / "merged", tokenizer, save_method="merged_16bit")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == tokenizer.chat_template
    )
    ids = torch.tensor([tokenizer("one two three")["input_ids"]])
    rounding = 2 * torch.finfo(torch.bfloat16).eps  # of weights and of the sum with the adapter
    for other in (again, merged):
        torch.testing.assert_close(
            FastLanguageModel.for_inference(other)(ids).logits.float(),
            FastLanguageModel.for_inference(model)(ids).logits.float(),
            atol=rounding,
            rtol=rounding,
        )


def test_gguf_files_of_several_formats_are_written_with_a_modelfile(adapted, tmp_path):
    model, tokenizer = adapted
    written = model.save_pretrained_gguf(
        tmp_path / "tone", tokenizer, quantization_method=["f16", "Q8_0"]
    )
    names = sorted(path.name for path in (tmp_path / "tone").iterdir())
    assert names == ["Modelfile", "tone.F16.gguf", "tone.Q8_0.gguf"]
    assert [file.endswith(".gguf") for file in written["gguf_files"]] == [True, True]
    with pytest.raises(ConfigError, match="q9 is not known"):
        model.save_pretrained_gguf(tmp_path / "tone", tokenizer, quantization_method="q9")


def test_pushing_is_refused_with_the_way(adapted):
    model, tokenizer = adapted
    for push in (model.push_to_hub_merged, model.push_to_hub_gguf):
        with pytest.raises(UnsupportedError, match="strop push"):
            push("me/tone", tokenizer, token="hf_")


def test_arguments_that_strop_has_another_way_for_are_named_all_at_once(folder, opened):
    with pytest.raises(UnsupportedError) as error:
        FastLanguageModel.from_pretrained(str(folder), load_in_8bit=True, revision="v2", other=1)
    for name in ("load_in_8bit=True: strop holds", "revision='v2': download", "other=1: is not an"):
        assert name in str(error.value)
    with pytest.raises(UnsupportedError, match="quantization_error"):
        FastLanguageModel.get_peft_model(opened[0], loftq_config={"loftq_bits": 4})
    with pytest.raises(UnsupportedError, match="does not read images"):
        FastVisionModel.from_pretrained("any")


def test_the_usual_arguments_of_notebooks_ask_for_nothing_else(opened):
    model = FastLanguageModel.get_peft_model(
        opened[0],
        r=4,
        target_modules=["q_proj", "v_proj"],
        lora_alpha=4,
        lora_dropout=0,
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=3407,
        use_rslora=True,
        loftq_config=None,
        max_seq_length=64,
    )
    config = model.peft_config["default"]
    assert config.use_rslora
    assert set(config.target_modules) == {"q_proj", "v_proj"}
    with pytest.raises(ConfigError, match="adapter already"):
        FastLanguageModel.get_peft_model(model)


def test_ids_ask_for_a_card_and_stay_where_there_is_none(opened):
    model, tokenizer = opened
    chat = [{"role": "user", "content": "one two"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert ids.to("cuda").device.type == device
    assert tokenizer("one", return_tensors="pt").to("cuda")["input_ids"].device.type == device
    assert type(ids.to("cpu")) is torch.Tensor
    answer = model.generate(input_ids=ids.to(model.device), max_new_tokens=3, use_cache=True)
    assert answer.shape[1] <= ids.shape[1] + 3


def test_fast_generate_answers_in_the_form_of_vllm_with_and_without_the_adapter(adapted, tmp_path):
    model, _ = adapted
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    greedy = unsloth.SamplingParams(temperature=0.0, max_tokens=5)
    model.save_lora(tmp_path / "lora")
    request = model.load_lora(tmp_path / "lora")
    with_adapter = model.fast_generate(["one two", "hill"], greedy, lora_request=request)
    without = model.fast_generate("one two", sampling_params=greedy, lora_request=None)
    assert [len(answer.outputs) for answer in with_adapter] == [1, 1]
    assert with_adapter[0].outputs[0].token_ids != without[0].outputs[0].token_ids
    several = model.fast_generate("one", unsloth.SamplingParams(n=3, max_tokens=2, seed=1))
    assert [completion.index for completion in several[0].outputs] == [0, 1, 2]


@pytest.mark.parametrize("name", ["llama-3.1", "phi-4", "gemma-3", "qwen-2.5", "qwen3", "chatml"])
def test_the_marks_of_a_family_part_questions_from_answers(opened, name):
    _, tokenizer = opened
    get_chat_template(tokenizer, chat_template=name)
    question, answer = marks_of(tokenizer)
    chat = [{"role": "user", "content": "hill"}, {"role": "assistant", "content": "rain"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert f"{question}hill" in text
    assert answer in text.partition("hill")[2].partition("rain")[0]


def test_a_mapping_lets_a_template_read_other_names(opened):
    _, tokenizer = opened
    names = {"role": "from", "content": "value", "user": "human", "assistant": "gpt"}
    get_chat_template(tokenizer, "chatml", mapping=names, system_message="Be short.")
    text = tokenizer.apply_chat_template(chats(1)[0]["conversations"][:2], tokenize=False)
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\none two")
    usual = [{"role": "user", "content": "one two three"}]
    assert "user\none two three<|im_end|>" in tokenizer.apply_chat_template(usual, tokenize=False)
    with pytest.raises(ConfigError, match="choose from alpaca"):
        get_chat_template(tokenizer, "starling")


def test_a_template_is_made_from_an_example_of_a_turn(opened):
    _, tokenizer = opened
    example = "{SYSTEM}\nUSER: {INPUT}\nBOT: {OUTPUT}\nUSER: {INPUT}\nBOT: {OUTPUT}\n"
    tokenizer.chat_template = construct_chat_template(tokenizer, example, "Be kind.")
    chat = [{"role": "user", "content": "hill"}, {"role": "assistant", "content": "rain"}]
    text = tokenizer.apply_chat_template(chat * 2, tokenize=False)
    turn = "USER: hill\nBOT: rain<|end|>\n"
    assert text == f"Be kind.\n{turn}{turn}"
    with pytest.raises(ConfigError, match=r"needs \{INPUT\} and then \{OUTPUT\}"):
        construct_chat_template(tokenizer, "{OUTPUT} {INPUT}")


def test_columns_are_joined_into_turns_and_empty_parts_left_out():
    rows = Dataset.from_list([{"a": "x", "b": None, "out": "1"}, {"a": "y", "b": "z", "out": "2"}])
    joined = to_sharegpt(rows, "A {a}.[[ B {b}.]]", output_column_name="out")
    assert [row["conversations"][0]["value"] for row in joined] == ["A x.", "A y. B z."]
    longer = to_sharegpt(rows, "{a}", output_column_name="out", conversation_extension=3)
    assert [len(row["conversations"]) for row in longer] == [6, 6]
    with pytest.raises(DataError, match="no column c; they have a, b, out"):
        to_sharegpt(rows, "{c}", output_column_name="out")


def test_a_turn_of_no_known_role_is_named_with_its_row():
    rows = Dataset.from_list([{"conversations": [{"from": "narrator", "value": "x"}]}])
    with pytest.raises(DataError, match=r"row 0: .*narrator"):
        standardize_sharegpt(rows)


def test_the_calls_in_the_docs_are_those_there_are():
    for name in unsloth.__all__:
        assert getattr(unsloth, name) is not None
    taken = inspect.signature(FastLanguageModel.get_peft_model).parameters
    assert {"r", "target_modules", "lora_alpha", "use_rslora"} <= taken.keys()


def test_an_adapter_names_the_base_it_was_trained_on(adapted, folder, tmp_path):
    model, _ = adapted
    model.save_pretrained_merged(tmp_path / "lora", save_method="lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder)
    assert load_file(tmp_path / "lora" / "adapter_model.safetensors")
