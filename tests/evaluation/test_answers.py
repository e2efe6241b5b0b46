"""Scores of generated answers, choices, rules, functions and judges, by a real tiny model."""

import contextlib
import http.server
import json
import threading

import pytest
import torch

import strop
from strop.core.errors import ConfigError, UnsupportedError
from strop.data import read
from strop.evaluation import evaluate
from strop.evaluation.answers.generate import generated
from strop.evaluation.answers.judge import Judge
from strop.evaluation.answers.named import Answered
from strop.evaluation.answers.rules import Rules
from strop.evaluation.outcomes import scores_of
from strop.evaluation.plan import Metrics
from strop.metrics import text

FREE = [{"prompt": f"count to {i}", "completion": "one two " * i} for i in range(1, 7)]
CHOICES = [
    {
        "question": f"Which is word {i}?",
        "choices": ["rain", "a long river", "sea"],
        "answer": "ABC"[i % 3],
    }
    for i in range(6)
]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return strop.load(str(tiny_model), dtype=torch.float32)


def test_named_measures_are_those_of_the_answers_that_the_model_gives(loaded):
    metrics = Metrics(names=["exact_match", "rouge_l", "length"], regex="o", max_new_tokens=8)
    evaluation = evaluate(loaded, FREE, metrics=metrics)
    answers = [answer.text for answer in generated(*loaded, read(FREE).rows, 8)]
    lengths = [len(text.words(answer)) for answer in answers]
    both = zip(answers, FREE, strict=True)
    rouge = [text.rouge_l(answer, row["completion"].strip()) for answer, row in both]
    names = {"loss", "perplexity", "exact_match", "rouge_l", "length", "regex"}
    assert evaluation.metrics.keys() == names
    assert evaluation.metrics["length"].value == pytest.approx(sum(lengths) / 6)
    assert evaluation.metrics["rouge_l"].value == pytest.approx(sum(rouge) / 6)
    assert evaluation.metrics["regex"].value == sum("o" in answer for answer in answers) / 6


def test_what_is_measured_suits_the_answers(loaded):
    kinds = {
        "json_fields": '{"sum": %d}',
        "number": "so it is %d",
        "token_f1": "word%d is short",
        "rouge_l": "a long answer of more than a few words, the number %s of them all",
    }
    for name, answer in kinds.items():
        filled = [answer.replace("%s", "x" * i).replace("%d", str(i)) for i in range(1, 4)]
        rows = [{"prompt": f"say {f}", "completion": f} for f in filled]
        metrics = Metrics(max_new_tokens=2)
        assert name in evaluate(loaded, rows, metrics=metrics).metrics


def test_metrics_that_do_not_exist_or_do_not_fit_are_named_at_once(loaded):
    with pytest.raises(ConfigError) as raised:
        Metrics(names=["rouge", "regex", "json_schema"], max_new_tokens=0)
    for part in ("did you mean rouge_l?", "--regex PATTERN", "--schema FILE", "--max-tokens is 0"):
        assert part in str(raised.value)
    with pytest.raises(ConfigError, match="accuracy: the answers are no labels"):
        evaluate(loaded, FREE, metrics=Metrics(names=["accuracy"]))
    with pytest.raises(ConfigError, match="no column of choices"):
        evaluate(loaded, FREE, metrics=Metrics(names=["choice_accuracy"]))


def test_rows_without_an_answer_are_named_and_the_others_measured(loaded):
    asked = {"messages": [{"role": "user", "content": "hello"}]}
    answered = {"messages": [*asked["messages"], {"role": "assistant", "content": "so be it"}]}
    metrics = Metrics(names=["loss"])
    evaluation = evaluate(loaded, [answered, asked, answered, {"messages": "?"}], metrics=metrics)
    assert evaluation.rows == 2
    assert "line 2 not measured: no answer" in evaluation.note
    assert "line 4 not measured" in evaluation.note


def test_rows_without_right_answers_are_scored_by_what_needs_none(loaded):
    rows = [{"prompt": f"say {i}"} for i in range(3)]
    metrics = Metrics(rules=Rules(max_words=50), max_new_tokens=2)
    evaluation = evaluate(loaded, rows, metrics=metrics)
    assert evaluation.metrics.keys() == {"length", "rules", "rules.max_words"}
    assert evaluation.metrics["rules"].value == 1
    assert "lines 1-3 without an answer: no loss" in evaluation.note


def test_one_row_has_no_interval_of_its_loss(loaded):
    evaluation = evaluate(loaded, FREE[:1], metrics=Metrics(names=["loss", "exact_match"]))
    assert (evaluation.loss.low, evaluation.loss.high) == (None, None)
    assert evaluation.metrics["exact_match"].high > 0.5
    assert "no interval" in evaluation.note


def test_the_likeliest_choice_is_taken_by_each_length(loaded):
    evaluation = evaluate(loaded, CHOICES, metrics=Metrics(names=["choice_accuracy"]))
    hits = [0, 0, 0]
    for row in CHOICES:
        rows = [{"prompt": row["question"], "completion": choice} for choice in row["choices"]]
        scored = scores_of(*loaded, read(rows).rows)
        sizes = [(1, len(c.encode()), len(s)) for c, s in zip(row["choices"], scored, strict=True)]
        for k in range(3):
            values = [float(s.double().sum()) / n[k] for s, n in zip(scored, sizes, strict=True)]
            hits[k] += "ABC"[values.index(max(values))] == row["answer"]
    names = ("choice_accuracy", "choice_accuracy_per_byte", "choice_accuracy_per_token")
    assert [evaluation.metrics[name].value for name in names] == [hit / 6 for hit in hits]


def test_a_function_of_the_user_scores_and_its_failures_are_named(loaded, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def score(answer, reference, record):\n"
        "    if record['prompt'].endswith('3'):\n        raise KeyError('no three')\n"
        "    return 0.25\n"
    )
    metrics = Metrics(names=[], functions=[f"{file}:score"], max_new_tokens=2)
    evaluation = evaluate(loaded, FREE, metrics=metrics)
    assert evaluation.metrics["score"].value == 0.25
    assert "line 3 not measured: score raises KeyError" in evaluation.note
    with pytest.raises(ConfigError, match="has no function other; it has score"):
        evaluate(loaded, FREE, metrics=Metrics(functions=[f"{file}:other"]))
    with pytest.raises(ConfigError, match=r"write it as my_file\.py:score"):
        evaluate(loaded, FREE, metrics=Metrics(functions=["score"]))


def test_rules_of_voice_are_checked_one_by_one():
    rules = Rules.read(
        {
            "forbidden": ["cheap"],
            "required_any": ["you", "your"],
            "max_words": 6,
            "form": "sentence",
        }
    )
    checks = rules.checks()
    answers = {
        "It is yours, and you save.": set(),
        "You get it CHEAP.": {"forbidden"},
        "We cheapen nothing": {"required_any", "form"},
        "You and I and all of them go.": {"max_words"},
    }
    for answer, broken in answers.items():
        assert {name for name, check in checks.items() if not check(answer)} == broken


@pytest.mark.parametrize(
    ("rule", "follows", "breaks"),
    [
        (
            {"language": "German"},
            "Das ist nicht der Weg und auch die Antwort.",
            "This is not the way of it and you have it.",
        ),
        ({"form": "list"}, "- one\n- two", "- one\ntwo"),
        ({"form": "question"}, "Ist es so？", "Es ist so."),
        ({"required": ["价格"]}, "新的价格是十元", "十元"),
        (
            {"max_grade": 5.0},
            "The cat sat on it.",
            "Notwithstanding considerations, organisations refrain.",
        ),
        ({"matches": "^[A-Z]"}, "Yes", "yes"),
        ({"forbidden_pattern": "!"}, "Yes.", "Yes!"),
    ],
)
def test_each_rule_tells_answers_apart(rule, follows, breaks):
    (check,) = Rules.read(rule).checks().values()
    assert check(follows)
    assert not check(breaks)


def test_rules_that_cannot_work_are_named_at_once():
    with pytest.raises(ConfigError) as raised:
        Rules.read({"max_wrds": 3, "matches": "(", "form": "poem"})
    for part in ("did you mean max_words?", "no regular expression", "form is 'poem'"):
        assert part in str(raised.value)


def test_a_schema_is_followed_or_the_package_is_named(loaded):
    metrics = Metrics(names=[], schema={"type": "object"}, max_new_tokens=2)
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        with pytest.raises(UnsupportedError, match=r"strop\[eval\]"):
            evaluate(loaded, FREE, metrics=metrics)
    else:
        assert evaluate(loaded, FREE, metrics=metrics).metrics["json_schema"].value == 0


@contextlib.contextmanager
def address(reply):
    """Serve a judge whose verdict is `reply(prompt)`, and yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer({"data": [{"id": "judge"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["model"] == "judge"
            content = reply(body["messages"][0]["content"])
            self.answer({"choices": [{"message": {"content": content}}]})

        def answer(self, value):
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answered(*answers):
    return [Answered(i, i + 1, answer, None, {}) for i, answer in enumerate(answers)]


def test_a_judge_compares_in_both_orders():
    def longer(prompt):
        first, second = prompt.split("Answer A:\n")[1].split("\n\nAnswer B:\n")
        second = second.split("\n\nReply")[0]
        return "T" if len(first) == len(second) else "A" if len(first) > len(second) else " b."

    with address(longer) as url:
        one, other = answered("short", "equal", "a longer one"), answered("longer", "fully", "few")
        scores, faults = Judge(url).prefer(one, other, ["?"] * 3)
        assert (scores.sums[:, 0].tolist(), faults) == ([1.0, 0.5, 0.0], [])
    with address(lambda prompt: "A") as url:  # whatever stands first
        assert Judge(url).prefer(one, other, ["?"] * 3)[0].sums[:, 0].tolist() == [0.5] * 3


def test_a_judge_that_answers_nonsense_or_is_down_is_named():
    rows = answered("one", "two")
    with address(lambda prompt: "Apples are better") as url:
        scores, faults = Judge(url).prefer(rows, rows, ["?"] * 2)
        assert scores is None
        assert [f.line for f in faults] == [1, 2]
        assert "neither A, B nor T" in faults[0].reason
    scores, faults = Judge(url, "judge").prefer(rows, rows, ["?"] * 2)
    assert scores is None
    assert "cannot be reached" in faults[1].reason
    with pytest.raises(ConfigError, match="write it as http"):
        Judge("localhost:80")
