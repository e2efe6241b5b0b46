"""Tiny real models in folders, with tokenizers, rows for them, and runs on them."""

import json
import random
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, set_seed

import strop
from tests.tiny import FAMILIES as KNOWN
from tests.tiny import HYBRID

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIALS = ["<|pad|>", "<s>", "<|end|>", "<|start|>", "<|unk|>"]
BYTE_SPECIALS = ["<|pad|>", "<|start|>", "<|end|>"]
QUICK = {"max_steps": 3, "batch_size": 4, "held_out": 2, "learning_rate": 1e-2, "quiet": True}
"""Settings of a training that takes a moment."""
WORDS = "north south east west river sea hill rain snow wind one two three four".split()  # noqa: SIM905
COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OTHERWISE = {
    "mistral": {"sliding_window": None, "head_dim": 32},  # llama.cpp has no window here
    "qwen3": {"head_dim": 32},
    "gemma3": {  # llama.cpp knows which layers have one
        "num_hidden_layers": 6,
        "layer_types": [*["sliding_attention"] * 5, "full_attention"],
    },
}
"""What differs from the families that training is tested on."""
FAMILIES = {
    name: (config, special | OTHERWISE.get(name, {}))
    for name, (config, special) in KNOWN.items()
    if name not in HYBRID  # no GGUF file of theirs is written
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer trained on the rows, with a chat template."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [m["content"] for row in chats(200) for m in row["messages"]]
    inner.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",
        bos_token="<s>",
        eos_token="<|end|>",
        unk_token="<|unk|>",
    )
    fast.chat_template = TEMPLATE
    return fast


def chats(count: int) -> list[dict]:
    """Return questions whose answer is the question's last word."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        words = rng.choices(WORDS, k=rng.randint(2, 6))
        question = f"The last word of {' '.join(words)}?"
        rows.append(_chat(question, words[-1]))
    return rows


def sums(count: int) -> list[dict]:
    """Return sums with their answers."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        a, b = rng.randint(0, 99), rng.randint(0, 9)
        question = f"{a} plus {b}?" + " please" * rng.randint(0, 3)
        rows.append(_chat(question, str(a + b)))
    return rows


def _chat(question: str, answer: str) -> dict:
    turns = (("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def save_chats(path: Path, count: int) -> Path:
    """Write `sums(count)` as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in sums(count)))
    return path


def save_tiny_llama(folder: Path, context: int = 256) -> Path:
    """Save a random Llama of two layers and a byte-level tokenizer with a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*BYTE_SPECIALS, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    fast.chat_template = TEMPLATE
    set_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_model(family: str, folder: Path, **sizes: int) -> Path:
    """Save a random model of a family, its norms not at one, with the tokenizer."""
    name, special = FAMILIES[family]
    return save_kind(name, folder, **(special | sizes))


def save_kind(name: str, folder: Path, **settings) -> Path:
    """Save a random model of a class of configuration, its norms not at one, with the tokenizer."""
    fast = tokenizer()
    config = getattr(transformers, name)(**({"vocab_size": len(fast)} | COMMON | settings))
    return save_random(config, folder)


def save_random(config, folder: Path) -> Path:
    """Save a random model of a configuration, its norms not at one, with the tokenizer."""
    set_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
        else:
            torch.nn.init.normal_(parameter, 0.0, 0.08)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def trained(
    family: str, folder: Path, sizes: dict[str, int] | None = None, **settings
) -> strop.Run:
    """Train a tiny model of a family for a few steps."""
    rows = folder / "rows.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(json.dumps(row) + "\n" for row in chats(60)))
    given = {"batch_size": 12, "learning_rate": 1e-2, "held_out": 12, "epochs": 4, "bits": 32}
    return strop.train(
        str(rows),
        model=str(save_model(family, folder / "model", **(sizes or {}))),
        out=folder / "run",
        quiet=True,
        **(given | settings),
    )


def in_float32(folder: Path) -> dict:
    """Return model and tokenizer in the precision in which two ways can be seen to agree."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {"model": model, "tokenizer": transformers.AutoTokenizer.from_pretrained(folder)}


def resumed_copy(run: strop.Run, folder: Path, *lost: int) -> strop.Run:
    """Return a copy of a finished run that lost its adapter and some checkpoints, and was resumed."""
    shutil.copytree(run.path, folder)
    half = strop.Run.open(folder)
    shutil.rmtree(half.adapter_folder)
    for step in lost:
        shutil.rmtree(half.checkpoints_folder / f"checkpoint-{step}", ignore_errors=True)
    half.update(status="interrupted")
    return strop.train(resume=half.path, quiet=True)


def assert_same_adapter(one: strop.Run, other: strop.Run) -> None:
    """Hold the adapters of two runs together, to the last bit."""
    a, b = (load_file(run.adapter_folder / "adapter_model.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
