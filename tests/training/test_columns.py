"""Columns on the way from a file to a run, and to what is done with the run."""

import json

import pytest

import strop
from strop.actions.evaluate import evaluate as evaluate_action
from strop.core.errors import DataError
from strop.data import Columns
from strop.data.reading.read import read_by
from strop.evaluation import evaluate
from strop.exporting.certify.record import _rows
from strop.runs.run_data import columns_of_run
from strop.training import Run
from tests.tiny.saved import QUICK, sums

QUICK = {**QUICK, "bits": 32, "max_steps": 1, "held_out": 2, "quiet": True}


def written(path, head, rows):
    path.write_text("\n".join([",".join(head), *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def mapped(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("mapped")
    rows = [(f"Film {i}?", ("good", "bad")[i % 2], f"note {i} of it") for i in range(6)]
    data = written(folder / "rows.csv", ("ask", "reply", "notes"), rows)
    given = {"map": "ask=prompt,reply=completion", "ignore_columns": "notes"}
    return strop.train(data, model=tiny_model, out=folder / "run", **given, **QUICK), data


def test_a_mapped_run_reads_its_file_again_wherever_it_is_needed(mapped):
    run, data = mapped
    assert run.settings["map"] == "ask=prompt,reply=completion"
    assert run.settings["ignore_columns"] == "notes"
    source, rows = _rows(run, None)
    assert source == "2 rows of rows.csv held out of training"
    assert {m["content"] for row in rows for m in row.messages[-1:]} <= {"good", "bad"}
    assert len(_rows(run, data)[1]) == 6
    assert evaluate(run, data).rows == 6


def test_another_file_may_have_strops_columns_or_another_map(mapped, tmp_path):
    run, data = mapped
    plain = written(tmp_path / "plain.csv", ("prompt", "completion"), [("Film 1?", "good")] * 2)
    other = written(tmp_path / "other.csv", ("q", "a"), [("Film 1?", "good")] * 2)
    same = evaluate(run, plain)
    columns = Columns({"q": "prompt", "a": "completion"})
    assert evaluate(run, other, columns=columns).loss == same.loss
    names = {"map": "q=prompt,a=completion"}
    result = evaluate_action(str(run.path), other, columns=names)
    assert result["tuned"]["loss"]["value"] == same.loss.value
    with pytest.raises(DataError, match="no column 'nope' to map"):
        evaluate(run, data, columns=Columns({"nope": "prompt"}))
    with pytest.raises(DataError, match="--map ask=prompt,reply=completion"):
        evaluate(run, other)


def test_content_that_would_not_be_read_stops_training_before_its_folder(tmp_path, tiny_model):
    rows = [{"prompt": f"p{i}", "completion": "c", "topic": f"birds of {i}"} for i in range(4)]
    with pytest.raises(
        DataError, match=r"topic \('birds of 0'\)\..*--ignore-columns topic"
    ) as caught:
        strop.train(rows, model=tiny_model, out=tmp_path / "run", **QUICK)
    assert "--map topic=context" in str(caught.value)
    assert not (tmp_path / "run").exists()
    run = strop.train(
        rows, model=tiny_model, out=tmp_path / "run", ignore_columns=["topic"], **QUICK
    )
    assert run.finished


def test_labels_have_the_instruction_of_training_in_a_file_that_lacks_some(tmp_path, tiny_model):
    rows = [{"text": f"t{i}", "label": "abc"[i % 3]} for i in range(9)]
    run = strop.train(rows, model=tiny_model, out=tmp_path / "run", **QUICK)
    instruction = "Classify the text as one of: a, b, c."
    assert run.record["data"]["sources"][0]["instruction"] == instruction
    assert any(instruction in note for note in run.record["data"]["notes"])
    fewer = [{"text": "t", "label": x} for x in "abab"]
    with_instruction = [{"prompt": f"{instruction}\n\nt", "completion": x} for x in "abab"]
    assert evaluate(run, fewer).loss == evaluate(run, with_instruction).loss


def test_several_sources_are_counted_in_the_plan_and_resumed_alike(tmp_path, tiny_model, capsys):
    for name in "ab":
        rows = [{"prompt": f"{name}{i}", "completion": "x"} for i in range(8)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    data = [tmp_path / "a.jsonl", f"{tmp_path / 'b.jsonl'}:0.5"]
    given = QUICK | {"held_out": 0, "quiet": False}
    run = strop.train(data, model=tiny_model, out=tmp_path / "run", **given)
    assert run.record["data"]["rows"] == 12
    assert run.settings["data"] == [str(data[0]), data[1]]
    stderr = capsys.readouterr().err
    assert "b.jsonl (prompt_completion): 4 of its 8 rows an epoch, weight 0.5" in stderr
    again = strop.train(run.settings["data"], model=tiny_model, out=tmp_path / "again", **given)
    assert Run.open(again.path).record["data"]["sha256"] == run.record["data"]["sha256"]


def test_a_source_that_maps_its_columns_is_read_so_again():
    given = {"data": [{"path": "a.csv", "map": "q=prompt,a=completion", "ignore_columns": "n"}]}
    record = {"settings": {**given, "map": "ask=prompt"}}
    columns = columns_of_run(record)
    assert columns.mapping == {"q": "prompt", "a": "completion", "ask": "prompt"}
    assert (columns.ignored, columns.strict) == (("n",), False)
    assert (
        read_by([{"q": "why?", "a": "so", "n": "a b"}], columns)[0].messages[1]["content"] == "so"
    )


def test_a_note_says_that_imitation_takes_the_chosen_alone(tmp_path, tiny_model, capsys):
    rows = [{"prompt": f"p{i}", "chosen": "good", "rejected": "bad"} for i in range(4)]
    strop.train(
        rows, model=tiny_model, out=tmp_path / "run", method="sft", **{**QUICK, "quiet": False}
    )
    assert "4 rows are pairs: their chosen answers are imitated" in capsys.readouterr().err


def test_the_plan_says_what_the_data_check_finds_and_where_to_see_it(tiny_model, tmp_path, capsys):
    rows = sums(6)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    settings = QUICK | {"held_out": 0, "quiet": False}
    for source, where in (
        (file, f"strop data check {file}"),
        ([*rows, rows[0]], "strop.data.check"),
    ):
        run = strop.train(
            source, model=tiny_model, out=tmp_path / where.replace("/", "-"), **settings
        )
        assert run.record["data"]["findings"]["duplicates"] == 1
        (line,) = [
            x for x in capsys.readouterr().err.splitlines() if "data check" in x or where in x
        ]
        assert "duplicates in 1" in line
        assert f"{where} says which" in line


def test_rows_of_another_file_are_held_out_and_not_trained_on(tmp_path, tiny_model):
    head = ("prompt", "completion")
    rows = [(f"Film {i}?", ("good", "bad")[i % 2]) for i in range(6)]
    data = written(tmp_path / "rows.csv", head, rows)
    test = written(tmp_path / "test.csv", head, [rows[0], ("Film 9?", "bad")])
    run = strop.train(data, model=tiny_model, out=tmp_path / "run", **QUICK | {"held_out": test})
    facts = run.record["data"]
    assert (facts["rows"], facts["held_out_rows"]) == (5, 2)
    assert any("1 rows are in" in note for note in facts["notes"])
    assert evaluate(run).rows == 2
    with pytest.raises(DataError, match="nowhere"):
        strop.train(
            data, model=tiny_model, out=tmp_path / "other", **QUICK | {"held_out": "nowhere.csv"}
        )
