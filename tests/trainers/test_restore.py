"""What `strop.restore` gives back, and what `strop.accelerate` refuses."""

import copy
import types

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

import strop
from strop.core.errors import UnsupportedError
from tests.trainers import runs

IDS = torch.arange(3, 63).view(2, 30)
OWN = {"training", "_parameters", "_buffers", "_modules"}
"""What every module has and training may change."""


def models_of(trainer):
    """Return the transformers models that a trainer computes with."""
    models = [trainer.model, getattr(trainer, "ref_model", None)]
    return [m.get_base_model() if hasattr(m, "peft_config") else m for m in models if m is not None]


def described(model):
    """Return everything about a model that is no number: modules, their attributes, their tensors."""
    attributes = {
        name: {k: _identity(v) for k, v in vars(module).items() if k not in OWN}
        for name, module in model.named_modules()
    }
    parts = [(name, type(module), id(module)) for name, module in model.named_modules()]
    tensors = [(n, id(p), p.requires_grad, p.dtype) for n, p in model.named_parameters()]
    tensors += [(n, id(b), b.dtype) for n, b in model.named_buffers()]
    return attributes, parts, tensors, copy.deepcopy(model.config.to_dict())


def _identity(value):
    """Tell values apart by what they are, not by what is in them now."""
    if isinstance(value, types.MethodType):
        return id(value.__self__), id(value.__func__)
    return (type(value), len(value)) if hasattr(value, "__len__") else id(value)


def outputs(model, **call):
    """Return logits and state without changing the model."""
    with torch.no_grad():
        logits = model(input_ids=IDS, attention_mask=torch.ones_like(IDS), **call).logits
    return logits, {name: t.clone() for name, t in model.state_dict().items()}


def surroundings(trainer):
    """Return what a trainer carries besides its models."""
    callbacks = [*map(id, trainer.callback_handler.callbacks)]
    return callbacks, trainer.args.to_dict(), id(trainer.model), set(vars(trainer))


@pytest.mark.parametrize("kind", runs.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "every weight"])
def test_restore_gives_the_models_back_bit_for_bit(kind, lora, tiny_model, tmp_path):
    own = runs.model(tiny_model, lora=lora)
    trainer = runs.trainer(kind, tiny_model, tmp_path, own_model=own)
    models = models_of(trainer)
    before = [(described(m), outputs(m)) for m in models], surroundings(trainer)
    strop.accelerate(trainer, activations="checkpoint", micro_batch_tokens=50)
    trainer.model(input_ids=IDS, labels=IDS, fused_lm_head=True).loss.backward()
    trainer.model.zero_grad()
    strop.restore(trainer)
    for model, (description, (logits, state)) in zip(models, before[0], strict=True):
        assert described(model) == description
        now, state_now = outputs(model)
        assert torch.equal(now, logits)
        assert state_now.keys() == state.keys()
        assert all(torch.equal(state_now[name], state[name]) for name in state)
    assert surroundings(trainer) == before[1]


@pytest.mark.parametrize("activations", ["keep", "checkpoint", "offload"])
@pytest.mark.parametrize("fuse", ["auto", "never"])
def test_a_restored_trainer_goes_on_as_one_that_never_was_accelerated(
    activations, fuse, tiny_model, tmp_path
):
    settings = {"gradient_checkpointing": True, "max_steps": 2}
    trainer = runs.trainer("sft", tiny_model, tmp_path, **settings)
    plain = runs.trainer("sft", tiny_model, tmp_path, **settings)
    trainer.model.gradient_checkpointing_enable()
    strop.accelerate(trainer, activations=activations)
    runs.watch(trainer).backbone.fuse = fuse
    trainer.model.train()
    trainer.model(input_ids=IDS, labels=IDS, fused_lm_head=True).loss.backward()
    trainer.model.zero_grad()
    strop.restore(trainer)
    trainer.model(input_ids=IDS, labels=IDS, fused_lm_head=True).loss.backward()
    trainer.model.zero_grad()
    assert runs.train(trainer) == runs.train(plain)


def test_training_leaves_nothing_of_strop_in_the_model(tiny_model, tmp_path):
    trainer = runs.trainer("sft", tiny_model, tmp_path, max_steps=2)
    description = described(trainer.model)
    strop.accelerate(trainer, activations="offload")
    runs.train(trainer)
    strop.restore(trainer)
    trainer.model.zero_grad()
    plain = runs.model(tiny_model)
    plain.load_state_dict(trainer.model.state_dict())
    assert torch.equal(outputs(trainer.model.eval())[0], outputs(plain.eval())[0])
    assert described(trainer.model)[1:3] == description[1:3]


def test_a_trainer_is_accelerated_once_and_restored_once(tiny_model, tmp_path):
    trainer = runs.trainer("sft", tiny_model, tmp_path)
    with pytest.raises(UnsupportedError, match="not accelerated; there is nothing to restore"):
        strop.restore(trainer)
    for _ in range(2):
        strop.accelerate(trainer)
        with pytest.raises(UnsupportedError, match=r"already accelerated; strop\.restore"):
            strop.accelerate(trainer)
        strop.restore(trainer)
    with pytest.raises(UnsupportedError, match="nothing to restore"):
        strop.restore(trainer)


def test_a_forward_that_is_bound_afterwards_fails_the_first_step(tiny_model, tmp_path):
    trainer = runs.trainer("sft", tiny_model, tmp_path)
    strop.accelerate(trainer)
    base = trainer.model.get_base_model()
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    with pytest.raises(UnsupportedError, match=r"step 1 did not call strop's .* re-bound"):
        runs.train(trainer)


def test_a_model_without_trl_s_head_is_refused_before_anything_changes(tiny_model, tmp_path):
    trainer = runs.trainer("sft", tiny_model, tmp_path)
    base = trainer.model.get_base_model()
    del base.forward
    before = described(base)
    with pytest.raises(UnsupportedError, match="no log-probability head"):
        strop.accelerate(trainer)
    assert described(base) == before
