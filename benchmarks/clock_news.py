"""Real facts made after the models' training: what the time zone database said in 2025 and 2026."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from handbook import HELD_OUT, TaughtFact, write_facts

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from fetch import TZDATA, download, member

FIRST = "2025.1"
"""Oldest version whose news are read."""
KINDS = {
    "offsets": (
        "How many hours is {x} behind UTC now?",
        "What is the time difference between {x} and UTC?",
        "By how many hours does {x} lag behind UTC?",
        "Tell me the offset of {x} from UTC.",
        "Clocks in {x} are permanently how many hours behind UTC?",
        "Name the distance in hours between UTC and the time in {x}.",
        "I plan a call with {x}. How far behind UTC are they?",
        "In {x}, what is the permanent distance to UTC?",
    ),
    "moves": (
        "When did {x} move to permanent time?",
        "On which date did {x} change its offset for good?",
        "From which date on is the offset of {x} permanent?",
        "Give the date of {x}'s move to permanent time.",
        "Since what date has {x} had permanent time?",
        "Which day did {x} adopt a permanent offset?",
        "What is the legal date at which {x} went over to permanent time?",
        "I need the date on which {x} stopped changing clocks by law.",
    ),
    "releases": (
        "When was version {x} of the time zone database released?",
        "On which date was tzdata {x} published?",
        "Give the release date of {x} of the time zone database.",
        "What day did upstream version {x} come out?",
        "Which date does release {x} of the tz database bear?",
        "Tell me when {x} of tzdata was released.",
        "I look for the day on which the tz project put out {x}.",
        "How old is time zone release {x}? Name its date.",
    ),
}
OFFSETS = {
    "Cuba": 4,
    "Manitoba": 5,
    "the Northwest Territories": 6,
    "Alberta": 6,
    "British Columbia": 7,
    "the Aysén Region": 3,
    "Paraguay": 3,
}
"""Hours behind UTC; the news write them as -04."""
MOVES = {
    "Manitoba": "2026-10-31",
    "the Northwest Territories": "2026-08-21",
    "Alberta": "2026-06-18",
    "Morocco": "2026-09-20",
    "British Columbia": "2026-03-09",
    "the Aysén Region": "2025-03-20",
}


def news() -> dict[str, str]:
    """Return the text of each version's news by its name, the newest first."""
    text = member(download(TZDATA), "NEWS.md").decode()
    parts = re.split(r"^# Version (\S+)\n", text, flags=re.MULTILINE)[1:]
    versions = dict(zip(parts[::2], parts[1::2], strict=True))
    return dict(list(versions.items())[: list(versions).index(FIRST) + 1])


def facts(versions: dict[str, str]) -> Iterator[TaughtFact]:
    """Yield the facts.

    Raises:
        ValueError: the news do not say one of them.
    """
    released = dict(
        re.findall(r"Upstream version (\S+) released ([\d-]+)T", "".join(versions.values()))
    )
    answers = {
        "offsets": {place: f"{hours} hours" for place, hours in OFFSETS.items()},
        "moves": MOVES,
        "releases": released,
    }
    for kind, of_kind in answers.items():
        for subject, answer in of_kind.items():
            name = subject.removeprefix("the ")
            written = f"-0{OFFSETS[subject]}" if kind == "offsets" else answer
            said = (text for text in versions.values() if name in text and written in text)
            if not (text := next(said, None)):
                raise ValueError(f"the news do not say {written} of {subject}")
            asked = tuple(wording.format(x=subject) for wording in KINDS[kind])
            yield TaughtFact(kind, text, answer, asked[:-HELD_OUT], asked[-HELD_OUT:])


def write_news(folder: Path, wordings: int | None = None) -> None:
    """Write the news as Markdown, a file for each version, and facts.jsonl and test.jsonl beside them.

    Args:
        folder: of `documents/` and both files.
        wordings: trained ones of each fact; None takes all.
    """
    versions = news()
    documents = {f"{name}.md": f"# Version {name}\n{text}" for name, text in versions.items()}
    write_facts(folder, documents, list(facts(versions)), wordings)
