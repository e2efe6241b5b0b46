"""`strop serve` as a process, asked by the official OpenAI client; bad requests harm nobody."""

import concurrent.futures
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

from strop.actions.chat import answer
from strop.core.errors import ConfigError, MissingPackageError
from strop.models.packaged import PACKAGED, find_parts
from strop.serving.served import find

pytestmark = pytest.mark.slow
NAME = "smollm2-135m-instruct"
KEY = "a key"
QUESTION = [{"role": "user", "content": "Name the capital of France."}]


def started(*arguments):
    command = [str(Path(sys.executable).parent / "strop"), "serve", *arguments, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())


def ended(process, number=None):
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=20)
    return process.returncode


@pytest.fixture(scope="module")
def served():
    try:
        find_parts(NAME, PACKAGED[NAME])
    except MissingPackageError as e:
        pytest.skip(str(e))
    process, printed = started(NAME, "--port", "0", "--api-key", KEY, "--context", "1024")
    yield printed
    assert process.poll() is None, "the server is still up after all of this"
    assert ended(process, signal.SIGINT) == 0


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served["address"], api_key=KEY, max_retries=0) as opened:
        yield opened


def completion(client, **more):
    settings = {"model": NAME, "messages": QUESTION, "temperature": 0, "max_tokens": 16}
    return client.chat.completions.create(**(settings | more))


@pytest.fixture(autouse=True)
def answers_the_next(served):
    """After every test the server answers as ever."""
    yield
    with openai.OpenAI(base_url=served["address"], api_key=KEY, max_retries=0) as client:
        assert "Paris" in completion(client).choices[0].message.content


def test_a_chat_is_answered_under_the_name_of_the_request(client):
    answer = completion(client)
    assert answer.model == NAME
    assert answer.usage.completion_tokens > 0
    assert [model.id for model in client.models.list()] == [NAME]


def test_a_stream_says_what_the_whole_answer_says(client):
    pieces = [
        e.choices[0].delta.content or "" for e in completion(client, stream=True) if e.choices
    ]
    assert len(pieces) > 3
    assert "".join(pieces) == completion(client).choices[0].message.content


def test_an_answer_ends_before_a_stop_sequence(client):
    answer = completion(client, stop=["Paris"]).choices[0]
    assert answer.finish_reason == "stop"
    assert "Paris" not in answer.message.content


def test_a_text_is_continued(client):
    parameters = {"model": NAME, "prompt": "One, two, three,", "max_tokens": 4, "temperature": 0}
    assert "four" in client.completions.create(**parameters).choices[0].text


def test_thirty_two_requests_at_once_are_all_answered(client):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: completion(client, max_tokens=4, seed=i), range(32)))
    assert all(answer.choices[0].message.content for answer in answers)


def test_clients_that_hang_up_free_their_slots(client):
    for _ in range(8):
        stream = completion(
            client, stream=True, max_tokens=900, messages=[user_says("Count to 500.")]
        )
        next(iter(stream))
        stream.close()
    # Eight answers of 900 tokens would hold all slots for most of a minute.
    assert completion(client, max_tokens=1, timeout=20).choices[0].finish_reason == "length"


def test_a_prompt_of_a_megabyte_is_refused_with_its_length(client):
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
        completion(client, messages=[user_says("word " * 200_000)])


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b'{"a":' * 100_000])
def test_what_is_no_json_object_is_refused(served, body):
    status, error = post(served, body, KEY)
    assert status == 400
    assert error["code"] == "invalid_json"


def test_a_key_is_required(served):
    for key in ("wrong", "", "ключ"):
        status, error = post(served, b"{}", key)
        assert (status, error["code"]) == (401, "invalid_api_key")
    with (
        openai.OpenAI(base_url=served["address"], api_key="x", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="missing or wrong"),
    ):
        completion(client)
    with urllib.request.urlopen(served["address"].removesuffix("/v1") + "/health") as answer:
        assert json.loads(answer.read()) == {"status": "ok"}


def test_unknown_models_and_routes_are_named(client, served):
    with pytest.raises(openai.NotFoundError, match=f"no model 'gpt-4'; known are {NAME}"):
        completion(client, model="gpt-4")
    status, error = post(served, b"{}", KEY, route="embeddings")
    assert (status, error["code"]) == (404, "not_served")


@pytest.mark.parametrize("messages", ["text", [{"role": "user"}], [5]])
def test_messages_of_another_shape_are_refused(client, messages):
    with pytest.raises(openai.APIStatusError) as caught:
        completion(client, messages=messages)
    assert 400 <= caught.value.status_code < 600


def test_a_key_is_generated_where_others_can_reach_it():
    process, printed = started(NAME, "--port", "0", "--host", "0.0.0.0", "--context", "512")
    assert ended(process, signal.SIGTERM) == 0
    assert len(printed["api_key"]) >= 32


def test_a_port_in_use_is_one_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process, printed = started(NAME, "--port", port, "--context", "512")
        assert ended(process) == 1
    assert "cannot be listened on" in printed["error"]


def test_what_cannot_be_served_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"did you mean {NAME}"):
        find(["smollm2-135m-instrct"])
    with pytest.raises(ConfigError, match="several models would be called"):
        find([NAME, NAME])


def test_chat_with_a_gguf_file_is_answered_by_the_same_engine():
    (file,) = find_parts(NAME, PACKAGED[NAME])
    printed = answer(str(file), QUESTION[0]["content"], max_tokens=16)
    assert "Paris" in printed["answer"]


def user_says(text):
    return {"role": "user", "content": text}


def post(served, body, key, route="chat/completions"):
    headers = {"Authorization": f"Bearer {key}".encode(), "Content-Type": "application/json"}
    request = urllib.request.Request(f"{served['address']}/{route}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.loads(e.read())["error"]
