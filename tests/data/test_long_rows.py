"""Rows of megabytes: in linear time, with memory of a few times the row."""

import json
import tracemalloc

import pytest

from strop import data
from strop.core.errors import DataError
from strop.data.words import first_words, squeezed

MIB = 2**20
CHAT = {"prompt": "q", "completion": "lorem ipsum dolor " * (4 * MIB // 18)}


@pytest.mark.parametrize("read", [data.read, data.check])
def test_a_row_of_megabytes_takes_at_most_six_times_its_size(read, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(CHAT) + "\n")
    read(file)  # what is imported does not count
    tracemalloc.start()
    try:
        read(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * file.stat().st_size


def test_a_long_text_is_shown_in_linear_time(tokenizer):
    text = "a few words, again and again; " * 20_000
    row = data.Row(1, text=text)
    pieces = data.show(row, tokenizer)
    assert "".join(piece.text for piece in pieces).startswith(text)
    assert [piece.kind for piece in pieces] == ["supervised", "special_supervised"]
    assert sum(piece.tokens for piece in pieces) == len(data.encode(row, tokenizer).ids)


def test_a_key_twice_among_sixty_thousand_is_named(tmp_path):
    keys = ", ".join(f'"k{i}": {i}' for i in (*range(60_000), 5))
    (tmp_path / "rows.jsonl").write_text(f'{{"prompt": "q", "completion": "a", {keys}}}\n')
    with pytest.raises(DataError, match="the key 'k5' stands twice"):
        data.read(tmp_path / "rows.jsonl")


def test_a_page_of_spaces_is_read_in_linear_time(tmp_path):
    page = "<pre>" + " " * 400_000 + "x   \n\n\n\n\ny</pre>"
    (tmp_path / "page.html").write_text(page)
    assert data.read(tmp_path / "page.html")[0].text == "x\n\ny"


def test_words_of_long_texts_are_those_of_split():
    for text in (
        "  a\tb \n",
        "",
        " ",
        "ab " * 70_000,
        "\u2003".join("xyz" * 60_000),
        "a" * 200_000,
    ):
        assert squeezed(text) == " ".join(text.split())
        assert first_words(text, 7) == text.split()[:7]
