"""Tables in memory and tables of `datasets`: rows as they are, classes by their names."""

import datasets
import numpy
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strop.data import DataError, check, read, stream

ROWS = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(3)]
FEATURES = datasets.Features(
    text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
)
CLASSES = {"text": ["good film", "bad film"], "label": [1, 0]}


class Polars:
    """A table of a library that is not installed here: any object with polars' `to_dicts`."""

    columns = ("prompt", "completion")

    def to_dicts(self):
        return ROWS


TABLES = {
    "pandas": lambda: pandas.DataFrame(ROWS),
    "polars": Polars,
    "arrow": lambda: pa.Table.from_pylist(ROWS),
    "an arrow batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "datasets": lambda: datasets.Dataset.from_list(ROWS),
    "datasets as a stream": lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "columns": lambda: {name: [row[name] for row in ROWS] for name in ROWS[0]},
    "an iterator": lambda: iter(ROWS),
    "a tuple": lambda: tuple(ROWS),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_in_memory_give_their_rows(table):
    assert [r.messages for r in read(table())] == [r.messages for r in read(ROWS)]
    assert not check(table()).severe


NO_TABLES = {
    "one column of pandas": pandas.Series(["a", "b"]),
    "an array": numpy.zeros((2, 2)),
    "a number": 5,
    "columns of several lengths": {"prompt": ["a"], "completion": []},
    "one row": ROWS[0],
    "splits": datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)),
}


@pytest.mark.parametrize("source", NO_TABLES.values(), ids=NO_TABLES)
def test_what_is_no_table_gives_one_clear_sentence(source):
    with pytest.raises(
        DataError, match=r"is not data; give|is data if|cannot be read as|has the splits"
    ):
        read(source)


def test_an_iterator_cannot_be_streamed_again_and_again():
    with pytest.raises(DataError, match="can be gone through only once"):
        stream(iter(ROWS))


def test_cells_that_pandas_lost_are_named_by_row():
    table = pandas.DataFrame({"prompt": ["a", "b", "c"], "completion": ["x", None, numpy.nan]})
    with pytest.raises(DataError, match="lines 2-3: completion is null"):
        read(table)
    numbers = pandas.DataFrame(
        {"prompt": ["a", "b"], "completion": numpy.array([0.1, 2], "float32")}
    )
    typed = pa.table({"prompt": ["a", "b"], "completion": pa.array([0.1, 2], pa.float32())})
    assert [r.messages[-1]["content"] for r in read(typed)] == ["0.1", "2.0"]
    assert len(read(numbers)) == 2


def test_classes_of_datasets_have_their_names_wherever_they_lie(tmp_path):
    dataset = datasets.Dataset.from_dict(CLASSES, features=FEATURES)
    dataset.save_to_disk(tmp_path / "folder")
    dataset.to_parquet(tmp_path / "a.parquet")
    sources = (
        dataset,
        dataset.to_iterable_dataset(),
        tmp_path / "folder",
        tmp_path / "a.parquet",
        dataset.with_format("arrow")[:],
    )
    for source in sources:
        rows = read(source)
        assert rows.instruction == "Classify the text as one of: neg, pos."
        assert [r.messages[-1]["content"] for r in rows] == ["pos", "neg"]


def test_a_class_of_nothing_is_no_label(tmp_path):
    dataset = datasets.Dataset.from_dict({**CLASSES, "label": [1, -1]}, features=FEATURES)
    with pytest.raises(DataError, match="line 2: label is empty"):
        read(dataset)


def test_numbers_of_classes_without_names_stay_numbers(tmp_path):
    pq.write_table(pa.table(CLASSES), tmp_path / "a.parquet")
    assert [r.messages[-1]["content"] for r in read(tmp_path / "a.parquet")] == ["1", "0"]


def test_a_column_twice_is_refused_by_name_in_every_table(tmp_path):
    table = pa.table([["q"], ["a"], ["x"]], names=["prompt", "completion", "prompt"])
    pq.write_table(table, tmp_path / "a.parquet")
    frame = pandas.DataFrame([["q", "a", "x"]], columns=table.column_names)
    for source in (tmp_path / "a.parquet", table, frame):
        with pytest.raises(DataError, match="more than one column named prompt; rename"):
            read(source)


def _columns_beyond_python(count=2):
    raw = pa.array([b"caf\xe9", b"ok"], pa.binary())
    return {
        "time": pa.array([2**62, 1], pa.timestamp("us")),
        "span": pa.array([2**62, 1], pa.duration("us")),
        "day": pa.array([2**30, 1], pa.date32()),
        "name": pa.Array.from_buffers(pa.string(), count, raw.buffers()),
    }


def test_values_that_python_cannot_hold_do_no_harm_in_columns_that_are_not_read(tmp_path):
    columns = {"prompt": ["q", "r"], "completion": ["a", "b"], **_columns_beyond_python()}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [row.messages[1]["content"] for row in read(tmp_path / "a.parquet")] == ["a", "b"]
    assert check(tmp_path / "a.parquet").usable == 2


@pytest.mark.parametrize("name", ["time", "span", "day", "name"])
def test_values_that_python_cannot_hold_are_faults_of_rows_that_need_them(name, tmp_path):
    columns = {"prompt": ["q", "r"], "completion": _columns_beyond_python()[name]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"lines? 1(-2)?: completion is a .*, not a text"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "record",
    [
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "x", '
         '"content": "y"}]'},
        {"messages": "[{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'x', "
         "'content': 'y'}]"},
        {"question": "q", "choices": '{"A": "x", "B": "y", "A": "z"}', "answer": "A"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}]}]},
    ],
)  # fmt: skip
def test_a_key_twice_in_a_cell_of_json_is_refused(record):
    with pytest.raises(DataError, match=r"the key '.*' stands twice in one object"):
        read([record])
