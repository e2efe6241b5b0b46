"""What is shown for a question: relevant documents in time, and a reason where there are none."""

import shutil
import time

import pytest

from strop.core.errors import ConfigError
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.evidence import Retrieving, evidence
from strop.retrieval.index import Index

TOPICS = ("leave", "parking", "laptops", "travel", "insurance", "training", "pension", "lunch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("evidence")
    (path / "docs").mkdir()
    for number, topic in enumerate(TOPICS, 2):
        text = f"The rules on {topic} changed last spring. The limit for {topic} is {number} units."
        (path / "docs" / f"{topic}.txt").write_text(text)
    build_index(path / "docs", path / "index", Indexing(embedder="none"))
    return path / "index"


def test_a_question_that_a_document_answers_shows_it(folder):
    shown = evidence(lambda: Index(folder), "What is the limit for parking?", Retrieving())
    assert shown.status == "shown"
    assert shown.hits[0].source == "parking.txt"
    assert shown.relevance[0] == shown.best > 0.5


def test_a_question_about_something_else_shows_nothing(folder):
    shown = evidence(lambda: Index(folder), "Who composed the opera Fidelio?", Retrieving())
    assert (shown.status, shown.hits) == ("nothing_relevant", ())


def test_an_index_that_is_not_there_is_a_reason_and_no_error(tmp_path):
    shown = evidence(lambda: Index(tmp_path / "nowhere"), "What?", Retrieving())
    assert (shown.status, shown.hits) == ("missing", ())
    assert "nowhere" in shown.reason


def test_a_damaged_index_is_a_reason_and_no_error(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "chunks.jsonl").write_bytes(b"{}")
    assert evidence(lambda: Index(copy), "parking", Retrieving()).status == "damaged"


class Slow(Index):
    """An index on a disk that does not answer."""

    def search(self, question, k=5):
        time.sleep(0.5)
        return super().search(question, k)


def test_a_search_beyond_its_time_shows_nothing(folder):
    start = time.monotonic()
    shown = evidence(lambda: Slow(folder), "parking", Retrieving(timeout=0.05))
    assert shown.status == "slow"
    assert time.monotonic() - start < 0.5


def test_settings_that_cannot_work_are_named_all_at_once():
    with pytest.raises(ConfigError, match=r"k is 0.*threshold is 2.*timeout is 0"):
        Retrieving(k=0, threshold=2, timeout=0)


HOTEL = {
    "rooms": "A night in the Heron room costs 157 euros.",
    "pool": "The pool opens at nine and closes at dusk.",
    "boats": "Rowing boats are lent out at the lower jetty by Mr Ortega.",
    "keys": "A lost key is replaced by the porter for twelve euros.",
    "bus": "The bus to Vellmar leaves the gate at ten past each hour.",
}


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How much do I pay for the Heron room?", "rooms.md"),
        ("Who lends out the boats?", "boats.md"),
        ("I lost my key, what happens now?", "keys.md"),
        ("What is the capital of Peru?", None),
        ("Which room did Napoleon sleep in?", None),
    ],
)
def test_words_that_no_document_of_a_few_has_do_not_hide_the_right_one(tmp_path, question, source):
    (tmp_path / "docs").mkdir()
    for name, text in HOTEL.items():
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name.title()}\n\n{text}\n")
    build_index(tmp_path / "docs", tmp_path / "index", Indexing(embedder="none"))
    shown = evidence(lambda: Index(tmp_path / "index"), question, Retrieving())
    assert (shown.hits[0].source if shown.hits else None) == source
