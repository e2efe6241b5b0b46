"""What a request asks for is done, or refused with the reason: asked of real engines on tiny models."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

import strop
from strop.exporting import export
from strop.serving.engine import Engine
from strop.serving.gateway import Gateway, Route
from tests.tiny.saved import TEMPLATE, chats, save_model

pytestmark = pytest.mark.slow
TOOL = {
    "type": "function",
    "function": {
        "name": "rain",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
OTHER = {"type": "function", "function": {"name": "wind", "parameters": {"type": "object"}}}
WITH_TOOLS = (
    "{% if tools %}<|start|>system\n# Tools\n<tools>{% for tool in tools %}\n{{ tool | tojson }}"
    '{% endfor %}\n</tools>\nAnswer with <tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>'
    "<|end|>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content or '' }}"
    '{% for call in m.tool_calls or [] %}<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|end|>\n{% endfor %}'
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)

SQUARES = (
    "{% for m in messages %}{% for a in range(m.content | length) %}"
    "{% for b in range(m.content | length) %}{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serve a tiny model: its template knows no tools, knows them, or takes ever longer."""
    folder = tmp_path_factory.mktemp("served")
    routes = {}
    for name in ("plain", "tools", "squares"):
        model = save_model("llama3", folder / name / "model", max_position_embeddings=1024)
        if name == "tools":
            (model / "chat_template.jinja").write_text(WITH_TOOLS)
        if name == "squares":
            (model / "chat_template.jinja").write_text(SQUARES + TEMPLATE)
        settings = {"max_steps": 1, "batch_size": 4, "held_out": 2, "bits": 32, "quiet": True}
        run = strop.train(chats(12), model=str(model), out=folder / name / "run", **settings)
        (exported,) = export(run, "gguf", quant="f16", certified=False)
        routes[name] = Route(Engine(next(exported.path.glob("*.gguf")), context=1024, slots=2))
    gateway = Gateway(routes, port=0)
    yield gateway.address
    gateway.close()
    for route in routes.values():
        route.engine.close()


def posted(address, model="plain", route="chat/completions", **more):
    body = {"model": model, "max_tokens": 160, "temperature": 1, "seed": 3, **more}
    if route == "chat/completions":
        body = {"messages": [{"role": "user", "content": "sea?"}], **body}
    request = urllib.request.Request(
        f"{address}/v1/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.loads(e.read())["error"]


def schema(of, **more):
    return {
        "type": "json_schema",
        "json_schema": {"name": "c", "strict": True, "schema": of, **more},
    }


def text(answer):
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "of",
    [
        {"type": "string", "pattern": "^(ab|c)[0-9]{2}x?$"},
        {"type": "string", "pattern": r"^\$[a-f]\.(?:é|-)$"},
        {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
    ],
    ids=str,
)
def test_an_answer_keeps_to_a_schema_that_is_served(address, of):
    status, answer = posted(address, response_format=schema(of))
    assert status == 200
    value = json.loads(text(answer))
    if "pattern" in of:
        assert re.fullmatch(of["pattern"][1:-1], value)
    elif of["type"] == "object":
        assert value["x"] in (1, 2)
    else:
        assert all(isinstance(item, bool) for item in value)
        assert len(value) == 2


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"response_format": schema({"type": "string", "pattern": "^a(?=b)$"})}, "pattern"),
        ({"response_format": schema({"type": "string", "pattern": r"^\d{3}$"})}, "pattern"),
        ({"response_format": schema({"type": "number", "minimum": 3})}, "minimum"),
        ({"response_format": schema({"not": {}}, strict=False)}, "not"),
        ({"response_format": {"type": "json_object", "schema": {"not": {}}}}, "not"),
        ({"json_schema": {"type": "array", "items": {}, "uniqueItems": True}}, "uniqueItems"),
        ({"response_format": {"type": "json_schema"}}, r"json_schema\.schema"),
        ({"response_format": {"type": "json_schema", "schema": {}}}, r"json_schema\.schema"),
        ({"response_format": "json"}, "one of text, json_object, json_schema"),
        ({"response_format": {"type": "xml"}}, "one of text, json_object, json_schema"),
        ({"response_format": schema({"type": "banana"})}, "banana"),
        ({"response_format": schema({"$ref": "#/nowhere"})}, "nowhere"),
        ({"tools": [TOOL], "tool_choice": "required"}, "no place for tools"),
        ({"tools": [TOOL]}, "no place for tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "rain"}}},
            "no place for tools",
        ),
        ({"tool_choice": "required"}, "the request has no tools"),
        ({"functions": [TOOL["function"]]}, "former way"),
        ({"n": 3}, "--slots 3"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
                ]
            },
            "reads text only",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "reads text only",
        ),
    ],
    ids=str,
)
def test_what_would_be_dropped_is_refused_with_the_reason(address, parameters, fault):
    status, error = posted(address, **parameters)
    assert status == 400, error
    assert re.search(fault, error["message"]), error
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("param", ["response_format", "json_schema", "tools", "tool_choice"])
def test_what_only_chats_have_is_refused_for_texts(address, param):
    status, error = posted(address, route="completions", prompt="sea", **{param: {"type": "x"}})
    assert (status, error["param"]) == (400, param)


@pytest.mark.parametrize(
    "parameters",
    [
        {"tools": [], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": None, "tool_choice": None, "response_format": None, "n": None},
        {"response_format": {"type": "text"}, "n": 2},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "sea?"}]}]},
    ],
    ids=str,
)
def test_what_asks_for_nothing_special_is_answered(address, parameters):
    status, answer = posted(address, **parameters)
    assert status == 200
    assert len(answer["choices"]) == (parameters.get("n") or 1)


def test_a_template_with_tools_gets_them_and_a_named_one_alone(address):
    status, plain = posted(address, "tools")
    assert status == 200
    status, answer = posted(address, "tools", tools=[TOOL, OTHER])
    assert status == 200, answer
    assert answer["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    choice = {"type": "function", "function": {"name": "wind"}}
    status, named = posted(address, "tools", tools=[TOOL, OTHER], tool_choice=choice)
    assert status == 200
    assert named["usage"]["prompt_tokens"] < answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("choice", "fault"),
    [
        ({"type": "function", "function": {"name": "snow"}}, "none of the tools: rain"),
        ({"type": "function"}, "it must be none, auto, required"),
        ("always", "always"),
    ],
    ids=str,
)
def test_a_choice_of_a_tool_that_is_none_is_refused(address, choice, fault):
    status, error = posted(address, "tools", tools=[TOOL], tool_choice=choice)
    assert status == 400
    assert fault in error["message"]


def test_calls_in_a_chat_need_a_template_that_writes_them(address):
    call = {"id": "call00000", "type": "function", "function": {"name": "rain", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "sea?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00000", "content": "1"},
    ]
    status, error = posted(address, messages=messages)
    assert status == 400
    assert "no place for tool calls" in error["message"]
    status, _ = posted(address, "tools", tools=[TOOL], messages=messages)
    assert status == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no alarms")
def test_the_child_that_tries_a_file_ends_where_a_rendering_does_not():
    code = "import time; from strop.serving import engine as e; e.SECONDS = 1; e._limit(); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGALRM


def test_a_chat_that_takes_too_much_to_render_is_refused(address):
    chat = [{"role": "user", "content": "x" * 2000}]  # 4,000,000 steps
    status, answer = posted(address, "squares", messages=chat)
    assert status == 400
    assert answer["code"] == "rendering_too_large"
    assert answer["message"].endswith("it takes more than 2,000,000 steps")
    short = [{"role": "user", "content": "x"}]
    assert posted(address, "squares", messages=short, max_tokens=2)[0] == 200
