"""Short runs of TRL's trainers on a tiny random Llama, with strop and without."""

import random
import warnings

import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed

import strop

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
ARGS = {
    "max_steps": 5,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 3,
    "dataloader_pin_memory": False,
}
NOT_OF_THE_MODEL = ("time", "runtime", "per_second", "epoch", "flos", "learning_rate", "memory")


def model(folder, *, lora=True, dtype=torch.float32, seed=0, **peft):
    """Return the tiny Llama, by itself or with a fresh adapter that is not at zero."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    base.generation_config.bos_token_id = None
    if not lora:
        return base
    set_seed(seed)
    tuned = get_peft_model(base, LoraConfig(**(LORA | peft)), autocast_adapter_dtype=False)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return tuned


def rows(kind, count=24, *, prompt=20):
    """Return rows for a kind of trainer: words of random length, about the same prompt each."""
    rng = random.Random(0)

    def words(low, high):
        return "".join(rng.choice("abcdefgh ") for _ in range(rng.randint(low, high)))

    system = "You add. " * (prompt // 9)
    found = []
    for i in range(count):
        asked = [_said("user", system + words(3, 30))]
        good, bad = ([_said("assistant", words(2, 25))] for _ in range(2))
        if kind == "sft":
            found.append({"messages": asked + good})
        elif kind == "dpo":
            found.append({"prompt": asked, "chosen": good, "rejected": bad})
        elif kind == "kto":
            found.append({"prompt": asked, "completion": good, "label": i % 2 == 0})
        else:
            found.append({"prompt": asked})
    return Dataset.from_list(found)


def reward(completions, **_):
    """Give the share of the letter a."""
    texts = [c[0]["content"] for c in completions]
    return [text.count("a") - 0.1 * text.count("e") + len(set(text)) / 9 for text in texts]


GENERATED = {"num_generations": 4, "max_completion_length": 12, "beta": 0.1}
KINDS = {
    "sft": (trl.SFTTrainer, trl.SFTConfig, {}),
    "dpo": (trl.DPOTrainer, trl.DPOConfig, {}),
    "kto": (trl.KTOTrainer, trl.KTOConfig, {}),
    "grpo": (trl.GRPOTrainer, trl.GRPOConfig, GENERATED),
    "rloo": (trl.RLOOTrainer, trl.RLOOConfig, GENERATED),
}


def trainer(kind, folder, out, *, own_model=None, data=None, ref_model=None, **settings):
    """Build a trainer that keeps to itself."""
    cls, config, special = KINDS[kind]
    extra = {"reward_funcs": reward} if kind in ("grpo", "rloo") else {}
    if ref_model is not None:
        extra["ref_model"] = ref_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = cls(
            model=model(folder) if own_model is None else own_model,
            args=config(output_dir=str(out), **(ARGS | special | settings)),
            train_dataset=rows(kind) if data is None else data,
            processing_class=AutoTokenizer.from_pretrained(folder),
            **extra,
        )
    built.remove_callback(PrinterCallback)
    built.create_model_card = lambda *_, **__: None
    return built


def train(built):
    """Train and return what was logged at each step, without times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.train()
    return [
        {k: v for k, v in line.items() if not any(part in k for part in NOT_OF_THE_MODEL)}
        for line in built.state.log_history
        if "loss" in line
    ]


def compare(make, *, relative=1e-4, without=frozenset(), **accelerated):
    """Train twice, with strop and without, and hold every logged number to the plain run's."""
    plain = train(make())
    built = make()
    strop.accelerate(built, **accelerated)
    ours = train(built)
    assert len(ours) == len(plain) > 0
    assert_same(ours, plain, relative, without)
    return built, ours


def assert_same(ours, plain, relative, without=frozenset()):
    """Hold each number to the other run's, relative to the largest of its name over the run.

    A loss of a policy that just made its answers is zero but for rounding; 0.01 is the least scale.
    """
    assert [a.keys() for a in ours] == [b.keys() for b in plain]
    for name in plain[0].keys() - without:
        scale = max(0.01, *(abs(line[name]) for line in plain if name in line))
        for step, (a, b) in enumerate(zip(ours, plain, strict=True), 1):
            if name not in b:
                continue
            error = abs(a[name] - b[name])
            assert error <= relative * scale, (
                f"step {step}, {name}: {a[name]} in place of {b[name]}"
            )


def watch(built):
    """Return strop's compact forward of an accelerated trainer."""
    callbacks = built.callback_handler.callbacks
    return next(c for c in callbacks if type(c).__name__ == "_Watch").compact


def _said(role, content):
    return {"role": role, "content": content}
