"""Several runs served as adapters over one base, each by its name; asked by the OpenAI client."""

import json

import openai
import pytest

import strop
from strop.actions.chat import answer
from strop.exporting import export
from strop.models.sampling import reply
from strop.serving.served import at_hand, find
from tests.serving.test_serving import ended, started
from tests.tiny.saved import chats, save_model

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "The last word of north sea rain?"}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return two runs on one base: one answers by the last word, one by "hill"."""
    folder = tmp_path_factory.mktemp("runs")
    model = save_model("llama3", folder / "model")
    rows = {"last": chats(60), "hill": chats(60)}
    for row in rows["hill"]:
        row["messages"][-1]["content"] = "hill"
    trained = []
    for name, of in rows.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in of))
        settings = {"batch_size": 12, "learning_rate": 1e-2, "held_out": 12, "epochs": 4}
        trained.append(
            strop.train(
                str(data), model=str(model), out=folder / name, bits=32, quiet=True, **settings
            )
        )
    return trained


@pytest.fixture(autouse=True)
def separate_cache(tmp_path_factory, monkeypatch):
    """Keep the base of a tiny model out of the user's cache."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def answered(run):
    model, tokenizer = run.load()
    return "".join(reply(model, tokenizer, QUESTION, max_new_tokens=8))


def test_each_name_is_answered_by_the_adapter_of_that_name(runs):
    models = find([str(run.path) for run in runs])
    assert len({served.file for served in models}) == 1
    assert len({served.adapter for served in models}) == 2
    expected = {run.path.name: answered(run) for run in runs}
    assert expected["hill"] == "hill"
    assert expected["last"] != "hill"
    process, printed = started(*(str(run.path) for run in runs), "--port", "0", "--context", "256")
    with openai.OpenAI(base_url=printed["address"], api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["last", "hill"]
        for name in ("last", "hill", "last"):  # what one has read is not the other's
            answer = client.chat.completions.create(
                model=name, messages=QUESTION, temperature=0, max_tokens=8
            )
            assert answer.choices[0].message.content == expected[name]
    process.terminate()
    assert ended(process) == 0


def test_the_newest_export_is_what_is_served_and_talked_to(runs, tmp_path):
    run = runs[1]
    export(run, "gguf", quant="f16", certified=False)
    assert at_hand(str(run.path), uncertified=True).adapter is None
    export(run, "gguf", quant="adapter-q8_0", certified=False)
    assert at_hand(str(run.path), uncertified=True).adapter.name == "adapter.gguf"
    printed = answer(str(run.path), QUESTION[0]["content"], max_tokens=8, uncertified=True)
    assert printed["answer"] == "hill"
