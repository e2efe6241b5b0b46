"""Rows of megabytes: in linear time, with memory of a few times the row."""

import itertools
import json
import random
import tracemalloc

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from strop import data
from strop.core.errors import DataError
from strop.data import token_windows as windows
from strop.data.words import first_words, squeezed
from tests.data import small

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


def nasty(rng):
    words = [
        "rain",
        "Don't",
        "I'LL",
        "  ",
        "\n\n",
        "\t",
        "1234567",
        "...!?",
        "海水",
        "🙂",
        "_",
        "'s",
    ]
    words += ["<|im_start|>user\n", "<|im_end|>", "</s>", "=" * 9, "a" * 30, "\u3000", "\r\n"]
    yield "".join(rng.choices(words, k=2000))
    yield " ".join(rng.choices(words[:3], k=2000))
    for character in " a7\n海":
        yield "x" + character * rng.randrange(4000, 9000) + "y z" + character * 77
    yield "".join(rng.choices(" \n\t\xa0", k=6000))
    yield "".join(rng.choices("ab", k=6000))
    yield "x\n" * 3000
    yield "".join(chr(rng.randrange(32, 0x3000)) for _ in range(6000))


def backends():
    yield small.small_tokenizer().backend_tokenizer
    corpus = [t[i : i + 99] for t in nasty(random.Random(0)) for i in range(0, 3000, 99)]
    under = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    for model, trainer, normalizer, split in (
        (models.BPE(unk_token="?", fuse_unk=True), trainers.BpeTrainer, under, None),
        (
            models.WordPiece(unk_token="?"),
            trainers.WordPieceTrainer,
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
        ),
        (models.Unigram(), trainers.UnigramTrainer, None, pre_tokenizers.Metaspace()),
    ):
        backend = Tokenizer(model)
        if normalizer is not None:
            backend.normalizer = normalizer
        if split is not None:
            backend.pre_tokenizer = split
        options = {"unk_token": "?"} if trainer is trainers.UnigramTrainer else {}
        backend.train_from_iterator(
            corpus, trainer(vocab_size=9000, special_tokens=["?"], show_progress=False, **options)
        )
        yield backend


def test_a_text_in_windows_has_the_tokens_of_the_whole_text(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 2048)
    divided = 0
    for backend in backends():
        for text in nasty(random.Random(1)):
            whole = backend.encode(text, add_special_tokens=False)
            tokens = windows.encode_text(backend, text)
            assert tokens.ids == whole.ids
            places = [tokens.token_to_chars(i) for i in range(len(tokens))]
            assert places == [whole.token_to_chars(i) for i in range(len(whole))]
            divided += isinstance(tokens, windows.LongEncoding)
    assert divided > 30


def test_examples_of_long_rows_are_those_of_whole_encodings(tokenizer, monkeypatch):
    rows = [
        data.Row(1, [{"role": "user", "content": t}, {"role": "assistant", "content": u}])
        for t, u in itertools.pairwise(nasty(random.Random(2)))
    ] + [data.Row(2, text=t) for t in nasty(random.Random(3))]
    whole = data.encode_all(rows, tokenizer)
    monkeypatch.setattr(windows, "WINDOW", 1024)
    assert data.encode_all(rows, tokenizer) == whole


def test_a_word_without_end_is_named_and_the_other_rows_are_encoded(tokenizer, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 2**10)
    monkeypatch.setattr(windows, "LONGEST", 2**12)
    rows = [{"prompt": "q" + " " * 30_000 + "x", "completion": "yes"}, {"text": "a b " * 9000}]
    for i, row in enumerate(rows):
        findings = [f for f in data.check([row], tokenizer).findings if f.kind == "endless_word"]
        assert len(findings) == 1 - i
        if findings:
            assert "are one word to the tokenizer" in findings[0].message


def test_a_long_text_is_tokenized_a_window_at_a_time(tokenizer):
    class Counting:
        model = tokenizer.backend_tokenizer.model

        def encode(self, text, add_special_tokens):
            sizes.append(len(text))
            return tokenizer.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)

    sizes: list[int] = []
    tokens = windows.encode_text(Counting(), "a few words\n" * (MIB // 12))
    assert len(sizes) > 3
    assert max(sizes) == windows.WINDOW
    assert len(tokens) > MIB / 6
