"""Trainers that are not the plain case: as TRL trains them, or off by itself and said."""

import copy
import logging

import pytest
import torch
import trl
from peft import LoraConfig
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

import strop
from strop.core.errors import UnsupportedError
from strop.evaluation import evaluate
from tests.trainers import runs

IDS = torch.arange(3, 63).view(2, 30)


def answers(model):
    with torch.no_grad():
        return model(input_ids=IDS, labels=IDS, fused_lm_head=True).log_probs


@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "every weight"])
def test_a_deep_copy_answers_with_its_own_weights(lora, tiny_model, tmp_path):
    own = runs.model(tiny_model, lora=lora)
    trainer = runs.trainer("sft", tiny_model, tmp_path, own_model=own)

    def halved(model):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return answers(model)

    wanted = halved(copy.deepcopy(trainer.model))
    strop.accelerate(trainer)
    before = answers(trainer.model)
    copied = copy.deepcopy(trainer.model)
    assert torch.equal(answers(copied), before)
    assert torch.allclose(halved(copied), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(answers(trainer.model), before)


@pytest.mark.filterwarnings("ignore:`return_outputs=True`")
@pytest.mark.parametrize("first", ["evaluate", "predict", "train"])
def test_a_trainer_that_ran_under_autocast_before_is_accelerated(first, tiny_model, tmp_path):
    settings = {"bf16": True, "max_steps": 2, "learning_rate": 1e-3}
    own = runs.model(tiny_model, lora=False)
    trainer = runs.trainer("sft", tiny_model, tmp_path, own_model=own, **settings)
    rows = trainer.train_dataset.select(range(4))
    if first == "train":
        runs.train(trainer)
    else:
        getattr(trainer, first)(rows)
    wrapped = vars(trainer.model)["forward"]
    plain = answers(trainer.model)
    strop.accelerate(trainer)
    assert torch.allclose(answers(trainer.model), plain, rtol=2e-2, atol=2e-2)  # bfloat16
    assert answers(trainer.model).dtype == torch.float32
    runs.train(trainer)
    assert runs.watch(trainer).calls >= 4
    strop.restore(trainer)
    assert vars(trainer.model)["forward"] is wrapped


class OnLogits(trl.SFTTrainer):
    """A loss made of logits."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = F.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return (loss, outputs) if return_outputs else loss


def test_a_loss_made_of_logits_trains_as_ever_and_is_said_once(tiny_model, tmp_path, caplog):
    def trained(accelerated):
        trainer = runs.trainer("sft", tiny_model, tmp_path, max_steps=3)
        trainer.__class__ = OnLogits
        if accelerated:
            strop.accelerate(trainer)
        return runs.train(trainer)

    with caplog.at_level(logging.WARNING, "strop"):
        assert trained(True) == trained(False)
    assert sum("strop changes nothing here" in line for line in caplog.messages) == 1


def test_an_adapter_put_in_by_transformers_is_trained(tiny_model, tmp_path):
    def own():
        torch.manual_seed(0)
        model = runs.model(tiny_model, lora=False)
        model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
        return model

    def make():
        return runs.trainer("sft", tiny_model, tmp_path, own_model=own(), max_steps=3)

    built, _ = runs.compare(make)
    assert not runs.watch(built).reported


@pytest.mark.parametrize("activations", ["checkpoint", "offload"])
def test_an_activated_adapter_trains_where_activations_are_computed_again(
    activations, tiny_model, tmp_path
):
    said = AutoTokenizer.from_pretrained(tiny_model)("add", add_special_tokens=False)["input_ids"]

    def make():
        model = runs.model(tiny_model, alora_invocation_tokens=said)
        return runs.trainer("sft", tiny_model, tmp_path, own_model=model, max_steps=2)

    built, _ = runs.compare(make, activations=activations)
    assert any("all of it is kept" in text for text in runs.watch(built).reported)


def test_attention_that_is_set_not_to_be_causal_is_left_to_trl(tiny_model, tmp_path):
    def make():
        model = runs.model(tiny_model, lora=False)
        model.model.layers[1].self_attn.is_causal = False
        return runs.trainer("sft", tiny_model, tmp_path, own_model=model, max_steps=2)

    built, _ = runs.compare(make)
    assert any("does not attend causally" in text for text in runs.watch(built).reported)


def four_bits(folder):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=how, dtype=torch.float32, device_map="cpu"
    )


def four_bit_trainer(folder, out):
    base = four_bits(folder)
    torch.manual_seed(1)
    from peft import get_peft_model

    model = get_peft_model(base, LoraConfig(**runs.LORA))
    return runs.trainer("sft", folder, out, own_model=model, max_steps=3)


@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_of_4_bit_weights_leaves_their_gradients(tiny_model, tmp_path):
    def trained(evaluated):
        trainer = four_bit_trainer(tiny_model, tmp_path)
        strop.accelerate(trainer)
        if evaluated:
            trainer.evaluate(trainer.train_dataset.select(range(4)))
        return [line["loss"] for line in runs.train(trainer)]

    assert trained(True) == trained(False)


@pytest.mark.filterwarnings("ignore")
def test_measuring_a_model_of_4_bits_leaves_its_gradients(tiny_model, tmp_path):
    trainer = four_bit_trainer(tiny_model, tmp_path)
    model, ids = trainer.model, torch.arange(5, 25).view(2, 10)

    def gradients():
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    before = gradients()
    evaluate((model, trainer.processing_class), [{"prompt": "one and", "completion": " two"}])
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_4_bit_weights_that_an_evaluation_packed_are_refused(tiny_model, tmp_path):
    trainer = four_bit_trainer(tiny_model, tmp_path)
    layers = [m for m in trainer.model.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    layers[0].weight.quant_state.packing_format_for_cpu = True  # what bitsandbytes notes
    with pytest.raises(UnsupportedError, match=r"was packed for inference .* passes no gradient"):
        strop.accelerate(trainer)
    assert all(m.support_avx512bf16_for_cpu for m in layers)
