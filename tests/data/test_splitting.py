import pytest

from strop.data import DataError, read, split


def rows_of(count):
    return read([{"text": f"row {i}"} for i in range(count)])


def test_parts_are_disjoint_whole_and_in_order():
    rows = rows_of(100)
    train, test = split(rows, held_out=0.1, seed=0)
    assert len(test) == 10
    assert sorted([*train, *test], key=lambda r: r.line) == list(rows)
    assert [r.line for r in train] == sorted(r.line for r in train)


def test_the_seed_decides():
    rows = rows_of(100)
    assert split(rows, held_out=10, seed=1)[1] == split(rows, held_out=10, seed=1)[1]
    assert split(rows, held_out=10, seed=1)[1] != split(rows, held_out=10, seed=2)[1]


def test_one_row_is_all_for_training():
    train, test = split(rows_of(1), held_out=0.1, seed=0)
    assert (len(train), len(test)) == (1, 0)


def test_equal_rows_never_stand_on_both_sides():
    rows = read([{"text": f"row {i % 7}"} for i in range(70)])
    train, test = split(rows, held_out=0.3, seed=3)
    assert {r.text for r in train}.isdisjoint(r.text for r in test)
    assert len(test) == 20


def test_holding_out_everything_is_refused():
    with pytest.raises(DataError, match="held_out is 5, but the list has 5 rows"):
        split(rows_of(5), held_out=5, seed=0)
    with pytest.raises(DataError, match=r"held_out is 1\.5"):
        split(rows_of(5), held_out=1.5, seed=0)
