#!/usr/bin/env bash
# TRL 1.16.0: a GRPOTrainer resumed within its second epoch goes on in the first epoch's order of prompts.
#
# Expected: a run resumed from checkpoint-6 of 12 steps draws the prompts that a run without a stop draws from
#   step 7 on, as SFTTrainer does; each prompt once an epoch.
# Seen: RepeatSampler has one generator, seeded when it is made, for the orders of all epochs, and no set_epoch; a
#   resumed trainer begins with the order of epoch 1 and skips into that. Of four prompts two are drawn twice in
#   the second epoch and two never; in the third one the order is that of the second.
# Harm: after each stop some prompts are trained on twice and others not at all, without a word; no run that
#   was stopped after its first epoch is repeatable.
# strop: src/strop/training/methods/reinforced.py draws each epoch's order from seed and epoch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'torch==2.13.0' 'transformers==5.23.0' 'accelerate==1.15.0' 'trl==1.16.0' \
    'datasets==5.2.0' 'numpy==2.4.6'
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

PROMPTS = ["north", "east", "south", "west"]


def tokenizer():
    """Return a tokenizer of whole words."""
    words = {word: i for i, word in enumerate(["<pad>", "<end>", *PROMPTS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>")


def prompts_drawn(folder, resume=None):
    """Train three epochs, one prompt a step, and return the prompts in their order."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=6, max_position_embeddings=64, **sizes))
    drawn = []

    def reward(prompts, completions, **columns):
        drawn.append(prompts[0])
        return [float(len(text)) for text in completions]

    args = GRPOConfig(
        folder, per_device_train_batch_size=2, num_generations=2, max_completion_length=4,
        num_train_epochs=3, save_steps=6, seed=1, report_to="none", use_cpu=True, bf16=False,
        disable_tqdm=True, logging_steps=100,
    )  # fmt: skip
    rows = Dataset.from_dict({"prompt": PROMPTS})
    trainer = GRPOTrainer(model, reward, args=args, train_dataset=rows, processing_class=tokenizer())
    trainer.train(resume_from_checkpoint=resume)
    return drawn


whole = prompts_drawn("whole")
resumed = prompts_drawn("resumed", "whole/checkpoint-6")
epochs = whole[:4], whole[4:8], whole[8:]
print("epochs of one run:     ", *epochs)
print("resumed after 6 steps: ", resumed[:2], resumed[2:])
assert all(sorted(epoch) == sorted(PROMPTS) for epoch in epochs)
assert resumed == [*epochs[0][2:], *epochs[1]], "it changed: epochs are resumed otherwise"
assert resumed != whole[6:], "it changed: a resumed run draws what the whole one draws"
PYTHON
