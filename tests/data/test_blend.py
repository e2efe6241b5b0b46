"""Several sources as one, each with its weight."""

import json

import pytest

from strop.core.errors import ConfigError
from strop.data import Columns, DataError
from strop.data.reading.blend import lasting, read_blend, source_faults, sources_of
from strop.planning.settings import Settings


@pytest.fixture
def files(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
        return str(tmp_path / name)

    return (
        write("a.jsonl", [{"prompt": f"a{i}", "completion": "x"} for i in range(8)]),
        write("b.jsonl", [{"text": f"b{i}", "label": "yn"[i % 2]} for i in range(8)]),
    )


def questions(rows):
    return [row.messages[0]["content"].split()[-1] for row in rows]


WEIGHTS = {"0.5": (4, 1), "1": (8, 1), "1.5": (12, 2), "2": (16, 2)}


@pytest.mark.parametrize(("weight", "taken"), WEIGHTS.items(), ids=WEIGHTS)
def test_a_weight_says_how_often_rows_are_taken(weight, taken, files):
    blend = read_blend([files[0], f"{files[1]}:{weight}"], Columns())
    rows = questions(blend.weighed(blend.rows, 3))
    assert rows[:8] == [f"a{i}" for i in range(8)]
    assert len(rows) - 8 == taken[0]
    assert max(map(rows.count, rows)) == taken[1]
    assert rows == questions(blend.weighed(blend.rows, 3))
    assert len(blend.rows) == 16
    others = {tuple(questions(blend.weighed(blend.rows, seed))) for seed in range(6)}
    assert (len(others) == 1) == (float(weight) % 1 == 0)


def test_sources_are_named_in_each_way(files):
    a, b = files
    named = [
        [a, f"{b}:0.5"],
        [{"path": a}, {"path": b, "weight": 0.5}],
        (a, {"path": b, "weight": 0.5}),
    ]
    for data in named:
        assert [(s.data, s.weight) for s in sources_of(data)] == [(a, 1), (b, 0.5)]
    assert [s.weight for s in sources_of("hf:owner/name:train")] == [1]
    assert lasting(["hf:owner/name:train", f"{a}:0.5"]) == ["hf:owner/name:train", f"{a}:0.5"]
    assert len(sources_of([{"prompt": "a", "completion": "b"}])) == 1


def test_lines_are_counted_on_and_each_source_has_its_format(files):
    blend = read_blend(list(files), Columns())
    assert [row.line for row in blend.rows] == list(range(1, 17))
    assert blend.rows.format == "prompt_completion, classification"
    assert blend.rows.instruction == "Classify the text as one of: n, y."
    assert [(part.before, part.rows) for part in blend.parts] == [(0, 8), (8, 8)]


def test_columns_are_mapped_in_the_sources_that_have_them(files, tmp_path):
    (tmp_path / "c.csv").write_text("ask,reply\nwhy,so\nhow,thus\n", encoding="utf-8")
    path = str(tmp_path / "c.csv")
    columns = Columns({"ask": "prompt", "reply": "completion"})
    assert len(read_blend([files[0], path], columns).rows) == 10
    source = {"path": path, "map": "ask=prompt,reply=completion"}
    assert len(read_blend([files[0], source], Columns()).rows) == 10
    with pytest.raises(DataError, match="none of the sources has the column nope"):
        read_blend([files[0], path], Columns({**columns.mapping, "nope": "context"}))


def test_faults_of_all_sources_are_named_together(files, tmp_path):
    for name in ("c.jsonl", "d.jsonl"):
        (tmp_path / name).write_text('{"prompt": "a", "completion": ""}\n')
    with pytest.raises(
        DataError, match=r"(?s)c\.jsonl.*completion is empty.*d\.jsonl.*there is no"
    ):
        read_blend([files[0], *(str(tmp_path / f"{x}.jsonl") for x in "cde")], Columns())


WRONG = {
    "no path": ([{"weight": 2}], "it has path"),
    "an unknown field": ([{"path": "a", "share": 2}], "it has path"),
    "a weight of nothing": (["a.jsonl:0"], "weight of a source is 0.0"),
    "a weight without end": (["a.jsonl:inf"], "weight of a source is inf"),
    "a weight without end of one source": ("a.jsonl:inf", "weight of a source is inf"),
    "a weight in words": ([{"path": "a", "weight": "half"}], "weight of a source is 'half'"),
    "a number": ([5], "a source is a path"),
}


@pytest.mark.parametrize(("data", "fault"), WRONG.values(), ids=WRONG)
def test_sources_that_cannot_work_are_refused_before_they_are_read(data, fault):
    assert fault in next(source_faults(data))
    with pytest.raises(ConfigError, match=fault):
        Settings.read({"data": data})
