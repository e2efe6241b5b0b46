"""A small tokenizer, and files of rows."""

import json

import pytest

from tests.data import small


@pytest.fixture
def tokenizer():
    smollm2 = small.small_tokenizer()
    smollm2.chat_template = small.SMOLLM2
    return smollm2


@pytest.fixture
def jsonl(tmp_path):
    def write(*rows, name="rows.jsonl"):
        path = tmp_path / name
        texts = [
            row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows
        ]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return path

    return write
