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
