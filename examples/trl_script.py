"""An ordinary TRL script with one line of strop in it: `strop.accelerate(trainer)`.

    python examples/trl_script.py [MODEL] [--plain]

MODEL is a folder or a hub id. `--plain` leaves the line out: the same losses, more slowly.
"""

import argparse
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import strop

CHATS = [
    ("What is the capital of France?", "Paris."),
    ("Which planet is the largest?", "Jupiter: it outweighs all the others together."),
    ("Name a metal that is liquid at room temperature.", "Mercury."),
    ("How many legs has a spider?", "Eight. An insect has six, so a spider is no insect."),
    ("What does a thermometer measure?", "Temperature."),
    ("Who wrote Hamlet?", "William Shakespeare, around the year 1600."),
    ("Why is the sky blue?", "Air scatters short waves of light more than long ones."),
    ("What is 7 times 8?", "56."),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--plain", action="store_true", help="leave strop out")
    chosen = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(chosen.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    rows = [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for question, answer in CHATS
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=4,
                num_train_epochs=3,
                learning_rate=2e-4,
                logging_steps=1,
                bf16=False,
                report_to="none",
                save_strategy="no",
            ),
        )
        if not chosen.plain:
            strop.accelerate(trainer)
        trainer.train()

    for entry in trainer.state.log_history:
        if "loss" in entry:
            print(f"step {entry['step']}: loss {entry['loss']:.6f}")


if __name__ == "__main__":
    main()
