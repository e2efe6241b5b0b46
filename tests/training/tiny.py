"""Tiny real models and data for the tests of training."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|start|>", "<|end|>"]
QUICK = {"max_steps": 3, "batch_size": 4, "held_out": 2, "learning_rate": 1e-2, "quiet": True}
"""Settings of a training that takes a moment."""


def save_tiny_llama(folder: Path, context: int = 256) -> Path:
    """Save a random Llama of two layers and a byte-level tokenizer with a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = TEMPLATE
    set_seed(0)
    config = LlamaConfig(
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
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chats(count: int) -> list[dict]:
    """Return sums with their answers."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        a, b = rng.randint(0, 99), rng.randint(0, 9)
        question = f"{a} plus {b}?" + " please" * rng.randint(0, 3)
        rows.append({"messages": [_said("user", question), _said("assistant", str(a + b))]})
    return rows


def _said(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def save_chats(path: Path, count: int) -> Path:
    """Write `chats(count)` as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in chats(count)))
    return path


def in_float32(folder: Path) -> dict:
    """Return model and tokenizer in the precision in which two ways can be told to agree."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {"model": model, "tokenizer": AutoTokenizer.from_pretrained(folder)}
