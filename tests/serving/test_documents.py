"""Documents behind a server: what a chat is shown, what is searched, what an answer carries."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import openai
import pytest
import torch

import strop
from strop.core.errors import MissingPackageError
from strop.models.packaged import PACKAGED, find_parts
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.evidence import Retrieving
from strop.retrieval.index import Index
from strop.retrieval.prompts import INSTRUCTION
from strop.serving.documents import Documents
from strop.serving.requests import RequestError

NAME = "smollm2-135m-instruct"
TOPICS = ("leave", "parking", "laptops", "travel", "insurance", "training", "pension", "lunch")
QUESTION = "What is the limit for parking?"


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "docs"
    folder.mkdir()
    for number, topic in enumerate(TOPICS, 2):
        text = f"The rules on {topic} changed last spring. The limit for {topic} is {number} units."
        (folder / f"{topic}.txt").write_text(text)
    build_index(folder, folder.parent / "index", Indexing(embedder="none"))
    return folder


def prepared(folder, question, **more):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    documents = Documents(folder, Retrieving())
    return asyncio.run(documents.prepared({"messages": messages, **more}))


def test_a_chat_shows_what_answers_its_last_question(docs):
    chat = prepared(docs.parent / "index", QUESTION)
    assert chat.body["messages"][0]["content"] == "Be brief."
    assert chat.body["messages"][1]["content"].startswith(INSTRUCTION)
    fields = chat.fields("3 units [1]")
    assert fields["retrieval"]["status"] == "shown"
    assert fields["citations"] == [{"number": 1, "source": "parking.txt", "title": ""}]


@pytest.mark.parametrize(
    ("question", "status"),
    [("Who composed the opera Fidelio?", "nothing_relevant"), (" ", "nothing_relevant")],
)
def test_a_chat_about_something_else_is_as_it_was(docs, question, status):
    chat = prepared(docs.parent / "index", question)
    assert chat.body["messages"][1]["content"] == question
    assert chat.fields("words")["retrieval"]["status"] == status


def test_a_request_can_do_without(docs):
    chat = prepared(docs.parent / "index", QUESTION, retrieval=False)
    assert chat.body["messages"][1]["content"] == QUESTION
    assert "retrieval" not in chat.body
    assert chat.fields("words") == {}


def test_without_an_index_chats_are_answered_and_searches_are_refused(docs):
    chat = prepared(docs.parent / "nowhere", QUESTION)
    assert chat.fields("words")["retrieval"]["status"] == "missing"
    with pytest.raises(RequestError, match="nowhere"):
        asyncio.run(Documents(docs.parent / "nowhere", Retrieving()).search({"query": "parking"}))


def test_an_index_that_was_brought_up_to_date_is_opened_again(docs):
    out = docs.parent / "renewed"
    build_index(docs, out, Indexing(embedder="none"))
    documents = Documents(out, Retrieving())
    before = asyncio.run(documents.search({"query": "bicycles"}))["hits"]
    (docs / "bicycles.txt").write_text("Bicycles stand in the yard.")
    try:
        build_index(docs, out, Indexing(embedder="none"))
        after = asyncio.run(documents.search({"query": "bicycles"}))["hits"]
    finally:
        (docs / "bicycles.txt").unlink()
    assert (before, after[0]["source"]) == ([], "bicycles.txt")


@pytest.mark.parametrize("body", [{}, {"query": ""}, {"query": "x", "k": 0}, {"query": 7}])
def test_a_search_that_cannot_be_read_is_refused(docs, body):
    with pytest.raises(RequestError):
        asyncio.run(Documents(docs.parent / "index", Retrieving()).search(body))


@pytest.mark.slow
def test_embeddings_are_the_vectors_of_the_model_that_indexed(docs, tiny_model, tmp_path):
    """The last resort: mean hidden states of a language model, in floats and in base64."""
    build_index(docs, tmp_path / "index", Indexing(embedder=str(tiny_model)))
    index = Index(tmp_path / "index")
    model, tokenizer = strop.load(tiny_model)
    documents = Documents(tmp_path / "index", Retrieving())
    reply = asyncio.run(documents.embeddings({"input": ["the limit", "lunch"]}))
    first = np.array(reply["data"][0]["embedding"], np.float32)
    ids = torch.tensor([tokenizer("the limit")["input_ids"]])
    with torch.inference_mode():
        mean = model.base_model(input_ids=ids).last_hidden_state[0].float().mean(0)
    assert np.allclose(first, mean / mean.norm(), atol=1e-5)
    packed = asyncio.run(documents.embeddings({"input": "lunch", "encoding_format": "base64"}))
    second = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.allclose(second, reply["data"][1]["embedding"], atol=1e-6)
    hits = index.search("The limit for lunch is 9 units.", 8)
    assert hits[0].document == "lunch.txt"
    assert all(hit.dense is not None for hit in hits)


def test_a_server_cites_searches_and_answers_by_itself(docs):
    try:
        find_parts(NAME, PACKAGED[NAME])
    except MissingPackageError as e:
        pytest.skip(str(e))
    command = [str(Path(sys.executable).parent / "strop"), "serve", NAME, "--port", "0", "--json"]
    command += ["--index", str(docs.parent / "index"), "--context", "2048"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(process.stdout.readline())["address"]
        with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
            chat = client.chat.completions
            asking = {"model": NAME, "temperature": 0, "max_tokens": 24}
            messages = [{"role": "user", "content": QUESTION}]
            answer = chat.create(messages=messages, **asking)
            assert answer.model_extra["documents"][0]["source"] == "parking.txt"
            events = list(chat.create(messages=messages, stream=True, **asking))
            assert events[-1].model_extra["retrieval"]["status"] == "shown"
            other = [{"role": "user", "content": "Name the capital of France."}]
            plain = chat.create(messages=other, **asking)
            assert plain.model_extra["retrieval"]["status"] == "nothing_relevant"
            assert "Paris" in plain.choices[0].message.content
        body = json.dumps({"query": "pension", "k": 1}).encode()
        search = address.removesuffix("/v1") + "/search"
        with urllib.request.urlopen(urllib.request.Request(search, body)) as found:
            assert json.loads(found.read())["hits"][0]["source"] == "pension.txt"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/embeddings", b'{"input": "x"}')
            )
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
