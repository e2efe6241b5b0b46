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
