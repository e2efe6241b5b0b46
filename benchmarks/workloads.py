"""The rows every mode trains on: real text, chosen with a fixed seed, written once per comparison.

Run as `python benchmarks/workloads.py NAME MODEL DATA_FOLDER OUT.json`; prints the model's folder
as a line of JSON. The data folder holds what
`scripts/fetch.py alpaca glaive dpo` brings.
"""

import dataclasses
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Sequences = list[list[tuple[list[int], int]]]
"""For each row, its token sequences; of each, the ids and how many come before the loss starts."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is trained on, by which of TRL's trainers, and how many rows make up one step."""

    trainer: str
    rows_per_step: int
    steps: int
    """The first is warm-up and is not timed."""
    build: Callable[[Any, Path, int], tuple[list[Row], Sequences]]
    """Takes a tokenizer, the data folder and how many rows are wanted."""
    forwards_without_gradient: int = 0
    """Passes per step that the mathematics needs besides the trained one, as DPO's reference."""
    loss_scale: float | None = None
    """What loss differences are compared with, where the loss itself is near zero."""


def alpaca_chats(folder: Path) -> Iterator[list[Row]]:
    """Yield the single-turn chats of `alpaca.json`."""
    for row in json.loads((folder / "alpaca.json").read_text(encoding="utf-8")):
        question = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        yield [
            {"role": "user", "content": question},
            {"role": "assistant", "content": row["output"]},
        ]


def longer_chats(folder: Path) -> Iterator[list[Row]]:
    """Yield the chats of several turns in the tool-call and the preference file."""
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for name in ("glaive.json", "dpo.json"):
        for row in json.loads((folder / name).read_text(encoding="utf-8")):
            turns = row["conversations"] + ([row["chosen"]] if "chosen" in row else [])
            if all(turn["from"] in roles for turn in turns):
                yield [{"role": roles[t["from"]], "content": t["value"]} for t in turns]


def encoded(tokenizer: Any, chat: list[Row]) -> tuple[list[int], int]:
    """Return the ids of a chat and where its last answer starts, as TRL renders it."""
    prompt = tokenizer.apply_chat_template(
        chat[:-1], add_generation_prompt=True, return_dict=False, tokenize=True
    )
    whole = tokenizer.apply_chat_template(chat, return_dict=False, tokenize=True)
    return whole, len(prompt)


def picked(
    tokenizer: Any, chats: list[list[Row]], count: int, *, instructions: int = 0
) -> tuple[list[Row], Sequences]:
    """Pick chats whose lengths follow a log-normal law: many short ones, a few very long.

    Every length grows by `instructions`, the tokens that all chats begin with.
    """
    chance = random.Random(0)
    pool = [(encoded(tokenizer, chat), chat) for chat in chats]
    rows: list[Row] = []
    sequences: Sequences = []
    for _ in range(count):
        length = min(650, max(20, math.exp(chance.gauss(math.log(140), 0.85)))) + instructions
        at = min(range(len(pool)), key=lambda i: abs(len(pool[i][0][0]) - length))
        tokens, chat = pool.pop(at)
        rows.append({"prompt": chat[:-1], "completion": chat[-1:]})
        sequences.append([tokens])
    return rows, sequences


def chats(tokenizer: Any, folder: Path, count: int) -> tuple[list[Row], Sequences]:
    """Build chats of very different lengths."""
    return picked(tokenizer, [*alpaca_chats(folder), *longer_chats(folder)], count)


def chats_with_instructions(
    tokenizer: Any, folder: Path, count: int
) -> tuple[list[Row], Sequences]:
    """Build chats that all begin with the same instructions of 300 tokens."""
    text = tokenizer.decode(next(passages(tokenizer, folder, 300)))
    system = {"role": "system", "content": text}
    return picked(tokenizer, [[system, *c] for c in alpaca_chats(folder)], count, instructions=280)


def passages(tokenizer: Any, folder: Path, length: int) -> Iterator[list[int]]:
    """Yield runs of `length` tokens of running text, the answers of `alpaca.json`, each once."""
    text = "\n\n".join(chat[-1]["content"] for chat in alpaca_chats(folder))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for start in range(0, len(ids) - length, length):
        yield ids[start : start + length]


def equal_texts(length: int) -> Callable[[Any, Path, int], tuple[list[Row], Sequences]]:
    """Return a builder of texts of exactly `length` tokens, all of which carry loss."""

    def build(tokenizer: Any, folder: Path, count: int) -> tuple[list[Row], Sequences]:
        source = passages(tokenizer, folder, length)
        texts = [next(source) for _ in range(count)]
        return [{"input_ids": ids} for ids in texts], [[(ids, 1)] for ids in texts]

    return build


def preferences(tokenizer: Any, folder: Path, count: int) -> tuple[list[Row], Sequences]:
    """Build pairs of answers of 256 tokens to a prompt of 512."""
    source = passages(tokenizer, folder, 1024)
    rows: list[Row] = []
    sequences: Sequences = []
    for _ in range(count):
        ids = next(source)
        prompt, *answers = ids[:512], ids[512:768], ids[768:]
        texts = [tokenizer.decode(part) for part in (prompt, *answers)]
        rows.append(dict(zip(("prompt", "chosen", "rejected"), texts, strict=True)))
        sequences.append([(prompt + answer, 512) for answer in answers])
    return rows, sequences


def groups(tokenizer: Any, folder: Path, count: int) -> tuple[list[Row], Sequences]:
    """Build groups of eight answers of 128 tokens to a prompt of 1,024; a row is one answer."""
    source = passages(tokenizer, folder, 2048)
    rows: list[Row] = []
    sequences: Sequences = []
    for _ in range(count // 8):
        ids = next(source)
        prompt, rest = ids[:1024], ids[1024:]
        answers = [rest[i : i + 128] for i in range(0, 1024, 128)]
        row = {"prompt": tokenizer.decode(prompt), "prompt_ids": prompt, "answers": answers}
        rows.append(row)
        sequences.extend([(prompt + answer, 1024)] for answer in answers)
    return rows, sequences


WORKLOADS = {
    "chats": Workload("sft", 8, 4, chats),
    "chats-50": Workload("sft", 1, 50, chats),
    "instructions": Workload("sft", 8, 4, chats_with_instructions),
    "equal": Workload("sft", 8, 3, equal_texts(256)),
    "row-2048": Workload("sft", 1, 3, equal_texts(2048)),
    "row-4096": Workload("sft", 1, 3, equal_texts(4096)),
    "row-8192": Workload("sft", 1, 2, equal_texts(8192)),
    "dpo": Workload("dpo", 2, 3, preferences, forwards_without_gradient=1),
    "grpo": Workload("grpo", 8, 3, groups, loss_scale=1.0),
}


def write(name: str, model: str, data: Path, out: Path) -> str:
    """Write the rows of a workload with its settings and token ids; return the model's folder."""
    from transformers import AutoTokenizer

    from strop.models import resolve

    workload = WORKLOADS[name]
    folder = str(resolve(model))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows, sequences = workload.build(tokenizer, data, workload.rows_per_step * workload.steps)
    plain = {k: v for k, v in dataclasses.asdict(workload).items() if k != "build"}
    out.write_text(json.dumps({"name": name, **plain, "rows": rows, "sequences": sequences}))
    return folder


if __name__ == "__main__":
    folder = write(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    print(json.dumps({"model": folder}))
