"""Teaching documents: facts in several wordings, what a writer writes, a whole run."""

import http.server
import json
import re
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from strop.actions.documents import teach
from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index
from strop.retrieval.raft.writer import RemoteWriter
from strop.retrieval.teach.facts import Fact, facts_of, with_test_wordings
from strop.retrieval.teach.recall import slope
from strop.retrieval.teach.writing import Composition, facts_in, write_about
from strop.runs.run import Run
from tests.tiny.saved import QUICK

TOPICS = ("leave", "parking", "laptops", "travel")
TEXT = "The rules on {topic} changed last spring. The limit for {topic} is {number} units."


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    path = tmp_path_factory.mktemp("teach") / "docs"
    path.mkdir()
    for number, topic in enumerate(TOPICS, 21):
        (path / f"{topic}.txt").write_text(TEXT.format(topic=topic, number=number))
    return path


@pytest.fixture(scope="module")
def index(docs):
    build_index(docs, docs.parent / "index", Indexing(embedder="none"))
    return Index(docs.parent / "index")


def test_wordings_of_a_fact_are_a_list_or_rows_with_one_fact(tmp_path):
    file = written(
        tmp_path / "facts.jsonl",
        [
            {"questions": ["Who?", "Who is it?"], "held_out": ["Whom?"], "answer": "Ann"},
            {"fact": 7, "question": "When?", "answer": "1901"},
            {"fact": 7, "question": "In which year?", "answer": "1901"},
            {"question": "no answer"},
        ],
    )
    facts, notes = facts_of(file, seed=0)
    assert facts[0] == Fact("Ann", ("Who?", "Who is it?"), ("Whom?",))
    assert len(facts[1].wordings) == len(facts[1].held_out) == 1
    assert "line 4" in notes[0]


def test_facts_in_one_wording_cannot_be_proven(tmp_path):
    file = written(tmp_path / "facts.jsonl", [{"question": "Who?", "answer": "Ann"}])
    with pytest.raises(DataError, match="no fact in two wordings"):
        facts_of(file, seed=0)


def test_no_wording_is_both_trained_and_held_out():
    (fact,) = with_test_wordings([Fact("Ann", ("a?", "b?", "c?"))], seed=3)
    assert sorted(fact.wordings + fact.held_out) == ["a?", "b?", "c?"]


def test_recall_that_tokens_add_is_their_slope():
    assert slope([(0.0, 0.0), (1000.0, 0.2), (2000.0, 0.4)]) == pytest.approx(0.2)
    assert slope([(0.0, 0.1)]) is None


class Server(http.server.BaseHTTPRequestHandler):
    """A writer at an address, right in all it writes."""

    count = 0
    sane = True

    def log_message(self, *words):
        """Print nothing."""

    def do_GET(self):
        self.send({"data": [{"id": "writer"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        topic = next(topic for topic in TOPICS if f"on {topic} " in prompt)
        number = re.search(r"is (\d+) units", prompt)[1]
        type(self).count += 1
        text = {
            "Write one question": f"Question: What is the limit for {topic}?\nAnswer: {number} units",
            "Ask the same": f"How high may {topic} go before the limit is met?",
            "Write this text": f"Last spring brought new rules; {topic} may reach {number} units.",
            "Write one sentence": f"Rules for {topic} allow 99 units.",
            "Is this true": "Yes.",
        }
        order = next((reply for start, reply in text.items() if start in prompt), f"{number} units")
        self.send({"choices": [{"message": {"content": order if self.sane else "blah"}}]})

    def send(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    Server.sane = True


def test_what_a_writer_wrote_is_filtered_and_not_written_again(index, address, tmp_path):
    how, file = Composition(questions=1, wordings=1, paraphrases=1), tmp_path / "written.jsonl"
    lines = write_about(index, lambda: RemoteWriter(address), how, file)
    facts = facts_in(lines)
    assert {len(fact.wordings) for fact in facts} == {2}
    assert {fact.answer for fact in facts} == {f"{n} units" for n in range(21, 25)}
    assert all("Last spring brought" in line["statements"][0] for line in lines)
    assert lines[0]["dropped"] == {"statement: it has a number that the document has not": 8}
    before = Server.count
    with file.open("a") as cut:
        cut.write('{"key": "cut off')
    assert write_about(index, lambda: RemoteWriter(address), how, file) == lines
    assert Server.count == before


def test_a_writer_of_nonsense_or_that_is_down_is_named(index, address, tmp_path):
    Server.sane = False
    file = tmp_path / "written.jsonl"
    with pytest.raises(DataError, match="no question with an answer: 16"):
        write_about(index, lambda: RemoteWriter(address), Composition(), file)
    with pytest.raises(UnsupportedError, match=r"127\.0\.0\.1:9"):
        write_about(index, lambda: RemoteWriter("http://127.0.0.1:9/v1"), Composition(), file)


def test_without_a_writer_and_without_questions_nothing_is_taught(docs, tmp_path):
    with pytest.raises(ConfigError, match="--writer, or give questions"):
        teach(docs, tmp_path / "run", {})
    with pytest.raises(ConfigError, match="held_out cannot be set"):
        teach(docs, tmp_path / "run", {"held_out": 3}, questions=tmp_path / "facts.jsonl")


@pytest.mark.slow
def test_a_taught_run_is_measured_before_and_after_and_not_trained_twice(
    docs, tiny_model, tmp_path
):
    rows = [
        {"questions": [f"Limit for {t}?", f"How much {t}?", f"{t}?"], "answer": f"{n} units"}
        for n, t in enumerate(TOPICS, 21)
    ]
    questions = written(tmp_path / "facts.jsonl", rows)
    settings = {**QUICK, "model": str(tiny_model), "eval_every": 1}
    settings.pop("quiet"), settings.pop("held_out", None)
    result = teach(docs, tmp_path / "run", settings, questions=questions)
    assert (result["facts"], result["wordings"], result["held_out"]) == (4, 8, 4)
    assert {"before", "after", "difference"} == set(result["recall"])
    assert result["perplexity"]["before"]["value"] > 0
    assert result["curve"][0][0] == 0
    weights = {Path(of["path"]).name: of["weight"] for of in Run(tmp_path / "run").settings["data"]}
    assert weights["texts.jsonl"] == weights["questions.jsonl"] == 10
    least = 1 / result["replay_rows"]
    assert weights["replay.jsonl"] == max(10 * result["replay_weight"], least)
    ElementTree.fromstring((tmp_path / "run.teach" / "recall.svg").read_text())
    trained = (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    again = teach(docs, tmp_path / "run", settings, questions=questions)
    assert again["recall"] == result["recall"]
    adapter = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    assert adapter.stat().st_mtime_ns == trained
    written(questions, rows[1:])
    with pytest.raises(ConfigError, match="was taught other documents"):
        teach(docs, tmp_path / "run", settings, questions=questions)
