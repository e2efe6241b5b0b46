"""Rows of questions about documents: what each kind shows, and what it answers."""

import http.server
import json
import threading
from collections import Counter

import pytest

from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.data import read
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index
from strop.retrieval.prompts import REFUSAL, Shown, has_answer, parsed, prompt_text
from strop.retrieval.raft.questions import QuestionAnswer, question_answers
from strop.retrieval.raft.rows import Mixture, raft_rows
from strop.retrieval.raft.writer import RemoteWriter, Writing, written_questions

TOPICS = ("leave", "parking", "laptops", "travel", "insurance", "training", "pension", "lunch")
TEXT = "The rules on {topic} changed last spring. The limit for {topic} is {number} units."
QUESTIONS = [
    QuestionAnswer(i, f"What is the {word} for {topic}?", (f"{number} units",))
    for i, (topic, number, word) in enumerate(
        (topic, number, word)
        for number, topic in enumerate(TOPICS, 21)
        for word in ("limit", "current limit", "highest limit", "usual limit")
    )
]

ANSWERS = {pair.question: pair.answers[0] for pair in QUESTIONS}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("raft")
    (path / "docs").mkdir()
    for number, topic in enumerate(TOPICS, 21):
        (path / "docs" / f"{topic}.txt").write_text(TEXT.format(topic=topic, number=number))
    build_index(path / "docs", path / "index", Indexing(embedder="none"))
    return Index(path / "index")


def shown_by(index, row):
    by_source = {chunk["source"]: chunk["text"] for chunk in index.chunks}
    return [Shown(by_source[source], source) for source in row["sources"]]


def test_each_kind_shows_and_answers_what_it_says(index):
    rows = list(raft_rows(index, QUESTIONS, Mixture(without=0.25, none=0.25)))
    assert Counter(row["kind"] for row in rows) == {"right": 16, "without": 8, "none": 8}
    for row in rows:
        prompt, answer = (message["content"] for message in row["messages"])
        documents, expected = shown_by(index, row), ANSWERS[row["question"]]
        assert prompt == prompt_text(row["question"], documents)
        inside = [has_answer(document.text, [expected]) for document in documents]
        if row["kind"] == "right":
            parts = parsed(answer, documents)
            assert parts.answer == expected
            assert [quote.verbatim for quote in parts.quotes] == [True]
            assert len(documents) == 4
            assert [n for n, there in enumerate(inside, 1) if there] == [row["right"]]
        else:
            assert not any(inside)
            assert len(documents) == (0 if row["kind"] == "none" else 4)
            assert answer == (expected if row["kind"] == "none" else REFUSAL)


def test_the_right_document_stands_at_every_place(index):
    rows = raft_rows(index, QUESTIONS, Mixture(without=0, none=0))
    assert {row["right"] for row in rows} > {2, 3}


def test_questions_about_one_document_share_all_before_the_question(index):
    rows = list(raft_rows(index, QUESTIONS, Mixture(without=0, none=0)))
    for first in range(0, len(rows), 4):
        starts = {
            row["messages"][0]["content"].removesuffix(row["question"])
            for row in rows[first : first + 4]
        }
        assert len(starts) == 1


def test_answers_from_memory_where_documents_lack_them_if_wished(index):
    mixture = Mixture(without=1, none=0, absent="memory")
    rows = list(raft_rows(index, QUESTIONS, mixture))
    assert all(row["messages"][1]["content"] == ANSWERS[row["question"]] for row in rows)


def test_a_question_without_an_answer_is_refused(index):
    asked = [QuestionAnswer(1, "What is the limit for rockets?", ())]
    (row,) = raft_rows(index, asked, Mixture())
    assert (row["kind"], row["messages"][1]["content"]) == ("unanswerable", REFUSAL)


def test_an_answer_in_other_words_cites_its_document(index):
    context = TEXT.format(topic="lunch", number=28)
    asked = [
        QuestionAnswer(1, "What is the limit for lunch?", ("28 units", "twenty-eight"), context)
    ]
    (row,) = raft_rows(index, asked, Mixture(without=0, none=0))
    assert row["right"] is not None


def test_rows_are_read_for_training_without_a_column_left_over(index, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = raft_rows(index, QUESTIONS, Mixture())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not read(file).unread


def test_shares_that_cannot_be_are_named():
    with pytest.raises(ConfigError, match="above 1"):
        Mixture(without=0.7, none=0.7)


def test_questions_are_read_from_the_usual_columns(tmp_path):
    rows = [
        {"question": "Who?", "answers": {"text": ["Ann", "Ann"]}, "context": "Ann did."},
        {"question": "Why?", "answers": []},
        {"question": "", "answers": ["x"]},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions, notes = question_answers(file)
    assert questions == [
        QuestionAnswer(1, "Who?", ("Ann",), "Ann did."),
        QuestionAnswer(2, "Why?", ()),
    ]
    assert "line 3" in notes[0]


def test_chats_are_questions_with_answers(tmp_path):
    messages = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann"}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": messages}) + "\n")
    assert question_answers(file)[0] == [QuestionAnswer(1, "Who?", ("Ann",))]


def test_texts_without_questions_are_refused(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "only words"}\n')
    with pytest.raises(DataError, match="no questions with answers"):
        question_answers(file)


REPLIES = (
    "Question: What is the limit for {topic} now?\nAnswer: {number} units",
    "Question: What is the limit for {topic} now?\nAnswer: {number} units",
    "I would rather not.",
    "Question: What does this text say about {topic}?\nAnswer: {number} units",
    "Question: Which rules on {topic} are the newest?\nAnswer: seven",
)


class Server(http.server.BaseHTTPRequestHandler):
    """A writer at an address: five replies in turn, and the right answer when asked again."""

    count = 0

    def log_message(self, *words):
        """Print nothing."""

    def do_GET(self):
        self.send({"data": [{"id": "writer"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        number, topic = next((n, t) for n, t in enumerate(TOPICS, 21) if f"on {t} " in prompt)
        text = f"{number} units"
        if "Write one question" in prompt:
            text = REPLIES[type(self).count % 5].format(topic=topic, number=number)
            type(self).count += 1
        self.send({"choices": [{"message": {"content": text}}]})

    def send(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_questions_of_a_writer_pass_every_filter(index):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    dropped = Counter()
    try:
        writer = RemoteWriter(f"http://127.0.0.1:{server.server_port}/v1")
        questions = list(written_questions(index, writer, Writing(each=5), dropped))
    finally:
        server.shutdown()
        server.server_close()
    assert len(questions) == len(TOPICS)
    assert dropped == {
        "nearly the same as another": 8,
        "no question with an answer": 8,
        "it does not say what it is about": 8,
        "its answer is not in the document": 8,
    }


def test_a_writer_that_is_down_is_an_error_that_names_it(index):
    writer = RemoteWriter("http://127.0.0.1:9/v1")
    with pytest.raises(UnsupportedError, match=r"127\.0\.0\.1:9"):
        list(written_questions(index, writer, Writing(), Counter()))
