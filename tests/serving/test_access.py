"""Who may ask a server, and what it says to requests that are odd: a real engine on a tiny model."""

import gzip
import json
import socket
import time
import urllib.error
import urllib.request

import pytest

import strop
from strop.core.errors import ConfigError
from strop.exporting import export
from strop.serving.access import Access
from strop.serving.engine import Engine
from strop.serving.gateway import Gateway, Route
from tests.tiny.saved import chats, save_model

MESSAGES = [{"role": "user", "content": "sea?"}]
CHAT = {"messages": MESSAGES, "max_tokens": 4, "temperature": 0}
PAGE = "http://localhost:3000"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    model = save_model("llama3", folder / "model", max_position_embeddings=1024)
    settings = {"max_steps": 1, "batch_size": 4, "held_out": 2, "bits": 32, "quiet": True}
    run = strop.train(chats(12), model=str(model), out=folder / "run", **settings)
    (written,) = export(run, "gguf", quant="f16", certified=False)
    engine = Engine(next(written.path.glob("*.gguf")), context=512, slots=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def gateway(engine):
    gateway = Gateway({"tiny": Route(engine)}, port=0, access=Access(origins=[PAGE]), patience=2)
    yield gateway
    gateway.close()


def send(address, body=CHAT, *, method="POST", route="/v1/chat/completions", **headers):
    """Return status, headers and answer; header names have `_` for `-`."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names = {"Content-Type": "application/json"} | names
    request = urllib.request.Request(address + route, data, names, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None
    except urllib.error.HTTPError as e:
        with e:
            text = e.read()
            is_json = e.headers.get_content_type() == "application/json"
            return e.code, e.headers, json.loads(text)["error"] if is_json else text


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/completion", "/slots", "/props"])
def test_the_engine_behind_the_door_answers_nobody_else(engine, route):
    method = "GET" if route in ("/slots", "/props") else "POST"
    body = None if method == "GET" else CHAT
    status, headers, _ = send(engine.address, body, method=method, route=route, Origin=PAGE)
    assert status == 401
    assert "Access-Control-Allow-Credentials" not in headers


def test_a_key_that_would_let_everybody_in_is_refused():
    for key in ("", " "):
        with pytest.raises(ConfigError, match="api-key is empty"):
            Access("0.0.0.0", api_key=key)
    with pytest.raises(ConfigError, match="'localhost:3000' is none; it is written as http://"):
        Access(origins=["localhost:3000"])
    assert len(Access("0.0.0.0").api_key) >= 32
    assert Access().api_key is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::"]
)
def test_a_page_that_calls_itself_this_machine_is_not_answered(gateway, host):
    status, _, error = send(gateway.address, Host=host)
    assert (status, error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:80", "LOCALHOST:1"])
def test_this_machine_is_answered_under_all_of_its_names(gateway, host):
    assert send(gateway.address, None, method="GET", route="/v1/models", Host=host)[0] == 200


def test_a_page_is_answered_where_its_origin_was_allowed(gateway):
    for origin in ("https://evil.example", "null", "http://localhost:3001"):
        status, headers, error = send(gateway.address, Origin=origin, Content_Type="text/plain")
        assert (status, error["code"]) == (403, "origin_not_allowed")
        assert f"--allow-origin {origin}" in error["message"]
        assert "Access-Control-Allow-Origin" not in headers
    status, headers, answer = send(gateway.address, Origin=PAGE)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    assert answer["model"] == "tiny"
    status, headers, _ = send(gateway.address, None, method="OPTIONS", Origin=PAGE)
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, PAGE)
    assert "authorization" in headers["Access-Control-Allow-Headers"]


def test_a_preflight_needs_no_key_and_its_request_does(engine):
    access = Access(api_key="sesame", origins=["*"])
    gateway = Gateway({"tiny": Route(engine)}, port=0, access=access)
    try:
        assert send(gateway.address, None, method="OPTIONS", Origin=PAGE)[0] == 204
        assert send(gateway.address, Origin=PAGE)[0] == 401
        assert send(gateway.address, Origin=PAGE, Authorization="Bearer sesame")[0] == 200
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages[0].content"),
        ({"tools": "x"}, "tools"),
        ({"logit_bias": "x"}, "logit_bias"),
        ({"stop": 5}, "stop"),
        ({"response_format": "x"}, "response_format"),
        ({"top_p": 5}, "top_p"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": "4"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 1.5}, "seed"),
        ({"presence_penalty": 9}, "presence_penalty"),
        ({"reasoning_format": "x"}, "reasoning_format"),
        ({"top_logprobs": 50, "logprobs": True}, "top_logprobs"),
    ],
)
def test_values_that_cannot_be_are_named_in_openais_form(gateway, values, place):
    status, _, error = send(gateway.address, {**CHAT, **values})
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert isinstance(error["code"], str)
    assert place in error["message"]
    assert error["param"] == place.partition("[")[0]


def test_all_values_that_cannot_be_are_named_at_once(gateway):
    _, _, error = send(gateway.address, {**CHAT, "top_p": 5, "stop": 5, "n": "x"})
    assert all(name in error["message"] for name in ("top_p: ", "stop: ", "n: "))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "snail"])
def test_a_body_that_is_not_compressed_as_it_says_is_the_clients_fault(gateway, encoding):
    status, _, error = send(gateway.address, b"\x1f\x8bno gzip", Content_Encoding=encoding)
    assert status == 400
    assert error["code"] in ("invalid_body", "invalid_json")


@pytest.mark.parametrize("encoding", ["br", "zstd"])  # refused by aiohttp before anything is asked
def test_a_compression_that_is_not_there_is_the_clients_fault(gateway, encoding):
    assert send(gateway.address, b"no", Content_Encoding=encoding)[0] == 400


def test_a_compressed_body_is_read(gateway):
    body = gzip.compress(json.dumps(CHAT).encode())
    assert send(gateway.address, body, Content_Encoding="gzip")[0] == 200


def test_half_requests_and_idle_connections_are_closed_in_time(gateway):
    address = ("127.0.0.1", gateway.port)
    half = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
    sent = {
        b"": socket.create_connection(address),
        b"GET /v1/mod": socket.create_connection(address),
    }
    sent[half] = socket.create_connection(address)
    began = time.monotonic()
    for text, connection in sent.items():
        connection.sendall(text)
        connection.settimeout(30)
    for text, connection in sent.items():
        try:
            answer = connection.recv(200)
        except ConnectionResetError:
            answer = b""
        assert answer.startswith(b"HTTP/1.1 408") if text == half else answer == b""
        connection.close()
    assert time.monotonic() - began < 20, "patience is 2 s"
    assert send(gateway.address)[0] == 200


def test_what_is_no_http_is_refused_without_a_word_in_the_log(gateway, caplog):
    for text in (b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"POST / HTTP/1.1\r\nContent-Length: x"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
            connection.sendall(text + b"\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.0 400")
    send(gateway.address, b"\x1f\x8bno gzip", Content_Encoding="gzip")
    assert not caplog.records


@pytest.mark.parametrize("port", [-1, 99999])
def test_a_port_that_cannot_be_is_named(engine, port):
    with pytest.raises(ConfigError, match=f"port is {port}"):
        Gateway({"tiny": Route(engine)}, port=port)


def test_a_context_beyond_counting_is_refused(engine):
    with pytest.raises(ConfigError, match="context 2000000000 for 4"):
        Engine(engine.file, context=2_000_000_000)
