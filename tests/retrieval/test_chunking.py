"""Chunks: they fit, they follow headings, and joined they are the document."""

from hypothesis import given, settings
from hypothesis import strategies as st

from strop.retrieval.chunking import chunks_of, tokens_in
from strop.retrieval.terms import terms_of

LETTERS = st.text(alphabet="ab#\n .。`\t한", max_size=400)


@settings(max_examples=60, deadline=None)
@given(LETTERS, st.integers(4, 40))
def test_chunks_are_the_text_in_order_and_fit(text, most):
    pieces = list(chunks_of(text, "", most))
    assert "".join("".join(p.text for p in pieces).split()) == "".join(text.split())
    assert all(p.text in text for p in pieces)
    assert all(tokens_in(p.text) <= most + most // 4 + 1 for p in pieces)


def test_paragraphs_stay_whole_where_they_fit():
    paragraphs = [f"Paragraph {i} " + "has some words. " * 6 for i in range(6)]
    pieces = list(chunks_of("\n\n".join(paragraphs), "", 64))
    assert [p.text for p in pieces] == [
        "\n\n".join(paragraphs[i : i + 2]).strip() for i in range(0, 6, 2)
    ]


def test_a_chunk_knows_the_headings_above_it():
    text = "# A\n\nfirst\n\n## B\n\nsecond\n\n# C\n\nthird"
    assert [p.title for p in chunks_of(text, "Book", 64)] == [
        "Book › A", "Book › A › B", "Book › C"
    ]  # fmt: skip


def test_a_hash_in_a_block_of_code_is_no_heading():
    text = "# A\n\n```\n# a comment\ncode\n```\n"
    assert [p.title for p in chunks_of(text, "", 64)] == ["A"]


def test_a_word_longer_than_a_chunk_is_divided():
    assert [len(p.text) for p in chunks_of("x" * 100, "", 8)] == [32, 32, 36]


def test_terms_are_words_in_lower_case():
    assert terms_of("The Qing-Era's 2nd Straße") == ["the", "qing", "era", "s", "2nd", "strasse"]


def test_terms_of_scripts_without_spaces_are_characters_and_pairs():
    assert terms_of("GPTの東京x") == ["gpt", "の", "東", "京", "の東", "東京", "x"]
