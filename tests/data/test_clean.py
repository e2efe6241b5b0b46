"""Real data sets that people train on: no finding says that training on them goes wrong."""

from pathlib import Path

import pytest
import trl

from strop.core.errors import StropError
from strop.data import check
from strop.models.loading import load_tokenizer

TOOLS = Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja"
DATA = Path(__file__).parents[2] / ".cache" / "data"
CLEAN = {
    "nyt.train.jsonl": "prompt_completion",
    "alpaca.json": "instruction",
    "alpaca-zh.json": "instruction",
    "c4.jsonl": "text",
    "chats.jsonl": "messages",
    "dpo.json": "preference",
    "dpo-short.jsonl": "preference",
    "dpo-zh.json": "preference",
    "glaive.json": "conversations",
    "glaive-zh.json": "conversations",
    "identity.json": "instruction",
    "kto.json": "kto",
    "tools.jsonl": "messages",
    "wiki.txt": "text",
}


@pytest.fixture(scope="module")
def tokenizer():
    try:
        smollm2 = load_tokenizer("smollm2-135m-instruct")
    except StropError as e:
        pytest.skip(str(e))
    smollm2.chat_template = TOOLS.read_text("utf-8")  # its own leaves tool calls out
    return smollm2


def test_there_are_at_least_twelve_clean_data_sets():
    assert len(CLEAN) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_data_set_gives_no_error(name, tokenizer):
    if not (DATA / name).is_file():
        pytest.skip("make test fetches it")
    report = check(DATA / name, tokenizer)
    assert report.format == CLEAN[name]
    assert report.usable == report.total
    assert [f for f in report.findings if f.severity == "error"] == []
