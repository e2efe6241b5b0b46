"""Batches of a student: which row of the data each is, and prompts where it draws the answers."""

from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from strop.core.tokens import IGNORE_INDEX

ROW = "row"
"""Column of a batch: which row of the data each one is."""


class NumberedRows(DataCollatorForLanguageModeling):
    """TRL's collator, with the number of each row, and prompts where answers are drawn."""

    prompts = False
    """Whether prompts are part of a batch."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch of some rows."""
        batch = {**super().torch_call(examples), ROW: torch.tensor([e[ROW] for e in examples])}
        if not self.prompts:
            return batch
        prompts = [_prompt(example) for example in examples]
        ids = torch.full((len(prompts), max(map(len, prompts))), self.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, -len(prompt) :] = torch.tensor(prompt)
            mask[i, -len(prompt) :] = 1
        return {**batch, "prompts": ids, "prompt_attention_mask": mask}


def _prompt(example: dict[str, Any]) -> list[int]:
    """Return the tokens before the last answer."""
    labels = example["labels"]
    end = max(i for i, label in enumerate(labels) if label != IGNORE_INDEX)
    while end and labels[end - 1] != IGNORE_INDEX:
        end -= 1
    return list(example["input_ids"][: max(1, end)])
