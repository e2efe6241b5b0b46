"""Answers for files of rows: every kind of file, labels, text, and a process that is killed."""

import csv
import json
import math
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

import strop
from strop.core.errors import ConfigError, DataError
from strop.data.reading.columns import Columns
from strop.evaluation.answers import predict as module
from strop.evaluation.answers.predict import Answering, predict
from strop.evaluation.answers.unanswered import rows_to_answer
from strop.evaluation.rows import rows_of

LABELS = ("bad", "good")
QUESTIONS = [{"id": i, "price": 1.5, "prompt": f"question {i}"} for i in range(5)]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return strop.load(str(tiny_model), dtype=torch.float32)


@pytest.fixture(scope="module")
def tone(tiny_model, tmp_path_factory):
    """Return a run that was trained on texts and labels."""
    folder = tmp_path_factory.mktemp("tone")
    rows = [{"text": f"text {i}", "label": LABELS[i % 2]} for i in range(16)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"max_steps": 1, "batch_size": 4, "held_out": 2, "quiet": True, "bits": 32}
    return strop.train(
        str(folder / "rows.jsonl"), model=str(tiny_model), out=folder / "run", **settings
    )


def saved(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_texts_without_labels_are_labelled_with_their_probabilities(tone, tmp_path):
    source = tmp_path / "new.csv"
    source.write_text('id,text,note\n07,"a, quoted text",\n08,another,x\n')
    written = predict(tone, source, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["07", "08"]
    assert rows[0]["text"] == "a, quoted text"
    assert written.columns == ("answer", "confidence", "probability_bad", "probability_good")
    for row in rows:
        chances = {label: float(row[f"probability_{label}"]) for label in LABELS}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert row["answer"] == max(chances, key=chances.__getitem__)
        assert float(row["confidence"]) == max(chances.values())
    assert written.labels == LABELS


def test_an_answer_that_is_there_is_passed_over_and_its_column_stays(tone, tmp_path):
    rows = [{"text": "a text", "label": "good", "answer": "mine"}, {"text": "b"}]
    predict(tone, rows, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (lines[0]["label"], lines[0]["answer"]) == ("good", "mine")
    assert lines[0]["predicted_answer"] in LABELS
    assert "label" not in lines[1]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".tsv"])
def test_questions_are_answered_in_every_kind_of_file(loaded, tmp_path, suffix):
    source = saved(tmp_path / "in.jsonl", QUESTIONS)
    predict(loaded, source, tmp_path / f"out{suffix}", Answering(max_new_tokens=4))
    if suffix == ".parquet":
        rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    elif suffix == ".tsv":
        with (tmp_path / "out.tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    else:
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [str(row["id"]) for row in rows] == list("01234")
    assert [float(row["price"]) for row in rows] == [1.5] * 5
    assert all(0 < float(row["confidence"]) <= 1 for row in rows)


def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    source = saved(tmp_path / "in.jsonl", QUESTIONS)
    predict(loaded, source, tmp_path / "whole.jsonl", Answering(max_new_tokens=4))

    def stop(stage, done, total):
        if done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        predict(loaded, source, out, Answering(max_new_tokens=4, progress=stop))
    partial = tmp_path / "out.jsonl.partial"
    with partial.open("a") as file:
        file.write('{"answer": "cut o')
    with pytest.raises(ConfigError, match="was begun on other rows"):
        predict(loaded, source, out, Answering(max_new_tokens=5))
    seen = []
    progress = lambda stage, done, total: seen.append(done)  # noqa: E731
    written = predict(loaded, source, out, Answering(max_new_tokens=4, progress=progress))
    assert written.resumed == seen[0] == 4
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not partial.exists()
    with pytest.raises(ConfigError, match="is there already"):
        predict(loaded, source, out)


def test_rows_that_cannot_be_answered_are_named_and_the_others_answered(loaded, tmp_path):
    rows = [{"prompt": "short"}, {"prompt": "long " * 400}, {"prompt": ""}, {"prompt": "last"}]
    written = predict(loaded, rows, tmp_path / "out.jsonl", Answering(max_new_tokens=2))
    assert written.rows == 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert "the model takes" in lines[1]["error"]
    assert any("line 3 not measured: prompt is empty" in note for note in written.notes)


def test_confidence_is_the_mean_probability_of_the_answers_tokens(loaded, tmp_path):
    predict(loaded, QUESTIONS[:1], tmp_path / "out.jsonl", Answering(max_new_tokens=3))
    line = json.loads((tmp_path / "out.jsonl").read_text())
    model, tokenizer = loaded
    from strop.data import prompt, read

    ids, _ = prompt(read([{"prompt": "question 0", "completion": "?"}])[0], tokenizer)
    total = 0.0
    for _ in range(3):
        with torch.no_grad():
            chances = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        total += chances.max().item()
        ids = [*ids, int(chances.argmax())]
    assert line["confidence"] == pytest.approx(math.exp(total / 3), rel=1e-4)


def test_what_cannot_be_answered_at_all_is_refused(loaded, tmp_path):
    with pytest.raises(DataError, match="--map text=prompt"):
        predict(loaded, [{"text": "plain"}], tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match=r"files named \*\.xlsx are not written"):
        predict(loaded, QUESTIONS, tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match="limit is 0"):
        Answering(limit=0)


def test_columns_that_are_kept_are_read_in_the_encoding_that_is_named(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(
        "prompt,completion,town\nwhere?,there,Łódź\nwhen?,now,Kraków\n".encode("cp1250")
    )
    columns = Columns(encoding="cp1250", ignored=("town",))
    answered, _ = rows_to_answer(file, columns, None)
    for rows in (rows_of(file, columns, None), answered):
        assert [record["town"] for record in rows.records] == ["Łódź", "Kraków"]


def test_a_file_that_is_there_is_refused_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "answers.csv").write_text("a\n")
    code = (
        "import sys\nfrom strop.actions.predict import predict\nfrom pathlib import Path\n"
        "try:\n    predict('no-such-model', Path('none.csv'), Path('answers.csv'))\n"
        "except Exception as e:\n    print(e, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == (
        "answers.csv is there already; name another file, or pass --overwrite False\n"
    ), done.stderr
    assert (tmp_path / "answers.csv").read_text() == "a\n"
