"""A fictional handbook of 60 facts that no model has read, and questions in several wordings."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SYLLABLES = (
    "bra",
    "del",
    "fen",
    "gor",
    "hul",
    "jas",
    "kel",
    "lum",
    "mor",
    "nev",
    "pol",
    "quin",
    "ros",
    "tav",
    "vel",
)
ENDINGS = ("dan", "by", "wick", "ford", "ley", "mar", "sen", "ton")
DOCUMENTS = "documents"
EACH = 10
"""Facts of a kind."""
HELD_OUT = 2
"""Last wordings of each kind, which are not trained on of any fact."""
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "machines": (
        "The {x} press runs at {y}. Whoever starts it looks at the dial first.",
        (
            "What pressure does the {x} press run at?",
            "At which pressure is the {x} press operated?",
            "Tell me the operating pressure of the {x} press.",
            "How high is the pressure in the {x} press?",
            "What does the dial of the {x} press show when it runs?",
            "Name the pressure that the {x} press needs.",
            "I am about to start the {x} press. Which pressure is right?",
            "The {x} press: what is its working pressure?",
        ),
    ),
    "heads": (
        "The {x} office is led by {y}. Letters to it go through the post room.",
        (
            "Who leads the {x} office?",
            "Who is the head of the {x} office?",
            "Name the person in charge of the {x} office.",
            "Which person heads the {x} office?",
            "The {x} office is led by whom?",
            "Tell me who runs the {x} office.",
            "I have a complaint about the {x} office. Who is responsible for it?",
            "Who is the boss at the {x} office?",
        ),
    ),
    "warranties": (
        "A {x} kettle has a warranty of {y}. The receipt has to be shown.",
        (
            "How long is the warranty of a {x} kettle?",
            "What is the warranty period of the {x} kettle?",
            "For how long is a {x} kettle under warranty?",
            "Tell me the warranty of the {x} kettle.",
            "How many months of warranty does a {x} kettle have?",
            "When does the warranty of a {x} kettle end?",
            "My {x} kettle broke. Up to what age is it replaced?",
            "A customer asks how long we guarantee the {x} kettle. What do I say?",
        ),
    ),
    "sites": (
        "The works at {x} opened in {y}. A plaque at the gate says so.",
        (
            "When did the works at {x} open?",
            "In which year were the works at {x} opened?",
            "What is the opening year of the works at {x}?",
            "Since when do the works at {x} exist?",
            "Tell me the year in which the works at {x} opened.",
            "Which year stands on the plaque at {x}?",
            "How far back do the works at {x} go? Give the year.",
            "The {x} works were started in what year?",
        ),
    ),
    "rooms": (
        "The code of the {x} room is {y}. It changes when somebody leaves.",
        (
            "What is the code of the {x} room?",
            "Which code opens the {x} room?",
            "Tell me the door code for the {x} room.",
            "What do I type to enter the {x} room?",
            "How is the {x} room unlocked?",
            "Give the code for the {x} room.",
            "I stand in front of the {x} room and it is locked. What is the code?",
            "The {x} room: which number opens its door?",
        ),
    ),
    "suppliers": (
        "Steel for the {x} line comes from {y}. Orders are placed on Mondays.",
        (
            "Where does the steel for the {x} line come from?",
            "Which supplier delivers steel to the {x} line?",
            "Who supplies the {x} line with steel?",
            "Name the steel supplier of the {x} line.",
            "From whom is steel for the {x} line bought?",
            "Tell me who delivers the steel of the {x} line.",
            "The {x} line has run out of steel. Whom do I call?",
            "Who is it that sells us the steel used on the {x} line?",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class TaughtFact:
    """A fact, a text that says it, and the wordings of its question."""

    kind: str
    text: str
    answer: str
    wordings: tuple[str, ...]
    held_out: tuple[str, ...]


def facts(seed: int = 0) -> Iterator[TaughtFact]:
    """Yield the 60 facts."""
    rng = random.Random(seed)
    names = [
        (a + b + c).capitalize()
        for a in SYLLABLES
        for b in SYLLABLES[::2]
        for c in ENDINGS
        if a != b
    ]
    rng.shuffle(names)
    unused = iter(names)
    numbers = {
        "machines": [f"{n} bar" for n in rng.sample(range(112, 988), EACH)],
        "warranties": [f"{n} months" for n in rng.sample(range(7, 95), EACH)],
        "sites": [str(n) for n in rng.sample(range(1803, 1999), EACH)],
        "rooms": [str(n) for n in rng.sample(range(1010, 9990), EACH)],
    }
    for kind, (text, wordings) in KINDS.items():
        for number in range(EACH):
            x = next(unused)
            y = numbers[kind][number] if kind in numbers else f"{next(unused)} {next(unused)}"
            asked = tuple(wording.format(x=x) for wording in wordings)
            yield TaughtFact(kind, text.format(x=x, y=y), y, asked[:-HELD_OUT], asked[-HELD_OUT:])


def write_handbook(folder: Path, wordings: int | None = None) -> None:
    """Write the handbook as Markdown, and facts.jsonl and test.jsonl beside it; see `write_facts`."""
    every = list(facts())
    documents = {
        f"{kind}.md": "\n\n".join(
            [
                f"# The company's {kind}\n",
                *(fact.text for fact in every if fact.kind == kind),
            ]
        )
        + "\n"
        for kind in KINDS
    }
    write_facts(folder, documents, every, wordings)


def write_facts(
    folder: Path, documents: Mapping[str, str], facts: Sequence[TaughtFact], wordings: int | None
) -> None:
    """Write documents, the facts to teach and the questions to ask.

    Args:
        folder: of `documents/`, facts.jsonl and test.jsonl.
        documents: texts by the names of their files.
        facts: that the documents have.
        wordings: trained ones of each fact; None takes all.
    """
    (folder / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        (folder / DOCUMENTS / name).write_text(text, encoding="utf-8")
    lines = [
        {"questions": fact.wordings[:wordings], "held_out": fact.held_out, "answer": fact.answer}
        for fact in facts
    ]
    write_rows(folder / "facts.jsonl", lines)
    tests = [
        {"question": question, "answer": fact.answer, "context": fact.text}
        for fact in facts
        for question in fact.held_out
    ]
    write_rows(folder / "test.jsonl", tests)


def write_rows(file: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
