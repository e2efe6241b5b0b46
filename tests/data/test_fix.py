"""Cleaned copies of data, and what is said of them."""

from strop.data import read
from strop.data.checking.fix import clean


def test_what_was_done_is_one_sentence(tmp_path):
    rows = [
        *({"prompt": f"q{i}", "completion": "Sport"} for i in range(12)),
        *({"prompt": f"r{i}", "completion": "sport"} for i in range(2)),
        *({"prompt": f"s{i}", "completion": "Film"} for i in range(12)),
        *({"prompt": "q0", "completion": "Sport"} for _ in range(3)),
        {"prompt": "t", "completion": ""},
        {"prompt": "  ", "completion": "Film"},
        {"prompt": "cafÃ©", "completion": "Film"},
    ]
    noted = [{**row, "notes": f"see page {i} of it"} for i, row in enumerate(rows)]
    cleaned = clean(noted, tmp_path / "clean.jsonl")
    assert cleaned.sentence == (
        "32 → 27 rows: 3 duplicates, 1 empty, 1 without a question, 2 labels respelt, "
        "1 column left out, 1 text repaired"
    )
    assert len(read(tmp_path / "clean.jsonl")) == cleaned.left == 27
    again = clean(tmp_path / "clean.jsonl", tmp_path / "again.jsonl")
    assert again.sentence == "27 → 27 rows: nothing to mend"
