"""Chats with tools, calls and reasoning: which are compared, and by what two renderings differ."""

import dataclasses
import datetime
import json
import shutil

import pytest

import strop
from strop.data.rows import Row
from strop.exporting import export
from strop.exporting.certify.certificate import judged, thresholds
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look as look_llama_cpp
from strop.exporting.certify.open_transformers import look as look_transformers
from strop.exporting.certify.prompt import (
    Prompt,
    excerpt,
    other_date,
    other_number,
    with_text_arguments,
)
from strop.exporting.certify.prompts import ARGUMENTS, prompts
from strop.exporting.certify.record import record_reference
from strop.training import Run
from tests.tiny.saved import save_model, tokenizer

CALLS = (
    "{% if tools %}<|start|>tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|end|>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}"
    "</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CONCATENATED = CALLS.replace(
    " {{ c.function.arguments | tojson }}", "{{ ' ' + c.function.arguments }}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}] {{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
HEAT = {
    "type": "function",
    "function": {
        "name": "heat",
        "parameters": {"type": "object", "properties": {"level": {"type": "number"}}},
    },
}


def with_template(text):
    built = tokenizer()
    built.chat_template = text
    return built


def calling(arguments, content=""):
    call = {"type": "function", "function": {"name": "heat", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def row(*messages, tools=None, line=7):
    return Row(line=line, messages=list(messages), tools=tools)


QUESTION, ANSWER = {"role": "user", "content": "Warm?"}, {"role": "assistant", "content": "Yes."}


def test_a_template_that_writes_tools_is_tried_with_every_kind_of_argument():
    cut = with_template(CALLS)
    written = prompts([], cut)
    for kind in ARGUMENTS:
        (prompt,) = [p for p in written if p.what == f"a chat with {kind} in a call"]
        assert json.dumps(ARGUMENTS[kind], ensure_ascii=False) in prompt.text
    for prompt in written:
        assert prompt.ids == cut(prompt.text, add_special_tokens=False)["input_ids"]
        assert not prompt.of_run
    assert any("reasoning" in p.what and "[It is cold.]" in p.text for p in written)


def test_arguments_are_given_as_text_to_a_template_that_joins_texts():
    written = prompts([], with_template(CONCATENATED))
    (prompt,) = [p for p in written if p.what == "a chat with null in a call"]
    assert 'set_heat {"room": null}' in prompt.text
    assert prompt.messages[1]["tool_calls"][0]["function"]["arguments"] == '{"room": null}'


def test_a_template_is_not_tried_with_what_it_does_not_write_or_refuses():
    assert not any(p.tools for p in prompts([], tokenizer()))
    what = [p.what for p in prompts([], with_template(ALTERNATING))]
    assert what == ["a chat of several turns", "a chat with reasoning in an earlier answer"]
    plain = tokenizer()
    plain.chat_template = None
    assert prompts([row(QUESTION, ANSWER)], plain) == []


def test_rows_with_tools_calls_or_several_turns_are_taken_up_to_their_last_answer():
    result = {"role": "tool", "content": "ok"}
    rows = [
        row(QUESTION, ANSWER, line=1),
        row(QUESTION, calling({"level": 3.0}), tools=[HEAT], line=2),
        row(QUESTION, calling({"level": 3.0}), result, ANSWER, line=3),
        row(QUESTION, ANSWER, QUESTION, ANSWER, line=4),
    ]
    written = [p for p in prompts(rows, with_template(CALLS)) if p.of_run]
    assert [p.what for p in written] == [
        "a chat with tools of line 2",
        "a chat with tools of line 3",
        "a chat of several turns of line 4",
    ]
    assert [len(p.messages) for p in written] == [1, 3, 3]


def prompt_of(text, arguments=None, tools=None):
    messages = [QUESTION] if arguments is None else [QUESTION, calling(arguments)]
    return Prompt(what="a chat", messages=messages, tools=tools, text=text, ids=[], of_run=True)


@pytest.mark.parametrize(
    ("arguments", "right", "written", "named"),
    [
        ({"level": 3.0}, '{"level": 3.0}', '{"level": 3}', ("3.0", "3")),
        ('{"level": 3.0}', '{"level": 3.0}', '{"level": 3}', ("3.0", "3")),
        ({"a": [{"b": 1e-7}], "c": 2}, "1e-07, 2", "0.0, 2", ("1e-07", "0.0")),
        ({"level": 3}, '{"level": 3}', '{"level": 4}', None),  # no number with a point
        ({"level": 3.0}, 'At 5: {"level": 3.0}', 'At 6: {"level": 3}', None),
        ({"level": 3.0}, '{"level": 3.0}', '{"level":3}', None),  # a space as well
        ({"level": 3.0}, '{"level": 3.0, "on": true}', '{"level": 3, "on": True}', None),
        (None, "Größe 3.0", "Größe 3", None),  # a text, which no loader changes
    ],
)
def test_only_numbers_of_tools_and_calls_may_be_written_otherwise(arguments, right, written, named):
    assert other_number(prompt_of(right, arguments), written) == named


def test_numbers_of_tools_count_too():
    tools = [{"function": {"parameters": {"default": 1.0}}}]
    assert other_number(prompt_of("default: 1.0", tools=tools), "default: 1") == ("1.0", "1")


@pytest.mark.parametrize("form", ["%d %b %Y", "%d %B %Y", "%Y-%m-%d"])
def test_only_todays_date_may_stand_for_another(form):
    today = datetime.datetime.now(datetime.UTC).astimezone().strftime(form)
    past = datetime.date(2024, 7, 26).strftime(form)
    other = datetime.date(2023, 7, 26).strftime(form)
    assert other_date(prompt_of(f"Today: {past}."), f"Today: {today}.") == (past, today)
    assert other_date(prompt_of(f"Today: {past}."), f"Today: {other}.") is None
    assert other_date(prompt_of(f"Today: {past}."), f"Today is {today}.") is None


def test_a_difference_is_shown_around_its_first_character():
    assert (
        excerpt("a" * 50 + "b", "a" * 50 + "c")
        == f"{'a' * 24 + 'c'!r} instead of {'a' * 24 + 'b'!r}"
    )
    assert excerpt("ab", "a") == "'a' instead of 'ab'"


def test_calls_get_the_form_of_openais_interface():
    bare = {"role": "assistant", "tool_calls": [{"name": "heat", "arguments": {"town": "Zürich"}}]}
    (message,) = with_text_arguments([bare])
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "heat", "arguments": '{"town": "Zürich"}'}
    assert call["type"] == "function"
    assert call["id"]


ANSWERS = ("Größe 🙂", "漢字です", "नमस्ते", "e\u0301a\u0308", "👩‍👩‍👧", "مرحبا", "안녕", "plain")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run on tool calls and answers of many bytes; its embedding has unused rows."""
    folder = tmp_path_factory.mktemp("prompts")
    model = save_model("llama3", folder / "model", vocab_size=416)
    (folder / "model" / "chat_template.jinja").write_text(CALLS)
    rows = [{"messages": [{"role": "user", "content": f"Word {i}?"}, {"role": "assistant", "content": a}]}
            for i, a in enumerate(ANSWERS)]  # fmt: skip
    called = {**calling({"level": 3.0}), "content": "Now."}
    rows += [
        {"messages": [QUESTION, called, {"role": "tool", "content": "ok"}, ANSWER], "tools": [HEAT]}
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows * 6))
    return strop.train(
        str(data), model=str(model), out=folder / "run", bits=32, epochs=14, batch_size=18,
        learning_rate=1e-2, rank=16, held_out=9, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported")
    return {
        one.target: one for one in export(run, "gguf", "merged", out=out, data=run.settings["data"])
    }


def looked(run, reference, file, work):
    reference.save(work)
    report(work, work / "findings.json", lambda *args: look_llama_cpp(file, *args))
    findings = Findings.open(work / "findings.json")
    return judged(findings, thresholds("f16")), findings.notes


@pytest.mark.slow
def test_answers_with_characters_of_several_tokens_pass_where_they_are_right(exported):
    for target in ("gguf", "merged"):
        certificate = exported[target].certificate
        assert certificate.passed, certificate.faults
        assert certificate.answers == 8
        # An answer departs, if at all, where two tokens are equally likely to the trained model.
        assert certificate.same_answers + len(certificate.departures) == 8
        assert certificate.ends_produced == certificate.ends_expected


@pytest.mark.slow
def test_numbers_that_llama_cpp_writes_otherwise_are_an_exception_that_is_named(exported):
    rebuilt, numbers = exported["gguf"].certificate.notes
    assert rebuilt.startswith("llama.cpp rebuilds tools of their name, description and parameters")
    assert '"description": ""' in rebuilt
    assert "writes numbers in prompts otherwise than training did, 3 for 3.0" in numbers
    assert "a chat with tools of line 9" in numbers  # the run's own rows have such calls
    assert exported["merged"].certificate.notes == ()


@pytest.mark.slow
def test_layers_whose_rows_32_does_not_divide_stay_in_sixteen_bits(tmp_path):
    model = save_model(
        "llama3", tmp_path / "model", hidden_size=192, num_attention_heads=8, head_dim=24,
        intermediate_size=100, vocab_size=419,
    )  # fmt: skip
    rows = [{"prompt": f"{i}?", "completion": "Yes"} for i in range(16)]
    run = strop.train(
        rows, model=str(model), out=tmp_path / "run", bits=32, max_steps=2, quiet=True
    )
    (one,) = export(run, "bnb", out=tmp_path)
    assert one.certificate.passed, one.certificate.faults
    config = json.loads((one.path / "config.json").read_text())["quantization_config"]
    left = set(config["llm_int8_skip_modules"])
    layer = "model.layers.0"
    assert {f"{layer}.self_attn.{x}_proj" for x in "kv"} <= left
    assert {f"{layer}.mlp.{x}_proj" for x in ("up", "gate", "down")} <= left
    assert f"{layer}.self_attn.o_proj" not in left


@pytest.mark.slow
def test_a_tool_chat_of_the_run_that_is_rendered_otherwise_is_a_fault_another_a_note(
    run, exported, tmp_path
):
    reference = record_reference(run, run.assets(), run.settings["data"])
    cut = next(p for p in reference.prompts if p.of_run)
    probe = next(p for p in reference.prompts if p.what == "a chat with null in a call")
    file = exported["gguf"].path / "model.gguf"
    for prompt in (cut, probe):
        text = prompt.text.replace("<call>", "<CALL>").replace("tools", "TOOLS")
        other = dataclasses.replace(prompt, text=text, with_plain_tools="", ids=prompt.ids[:-1])
        changed = dataclasses.replace(reference, prompts=[other])
        faults, notes = looked(run, changed, file, tmp_path / "work")
        sentences = list(faults) if prompt.of_run else notes
        assert len(faults) == int(prompt.of_run)
        assert any("rendered otherwise by llama.cpp" in s and "TOOLS" in s for s in sentences), (
            sentences
        )


@pytest.mark.slow
def test_a_merged_template_that_loses_tools_is_a_fault(run, exported, tmp_path):
    folder = tmp_path / "merged"
    shutil.copytree(exported["merged"].path, folder)
    (folder / "chat_template.jinja").write_text(CALLS.replace("if tools", "if false"))
    record_reference(run, run.assets(), run.settings["data"]).save(tmp_path / "work")
    out = tmp_path / "findings.json"
    report(tmp_path / "work", out, lambda *written: look_transformers("merged", folder, *written))
    assert any("chat with tools" in fault for fault in Findings.open(out).faults)


@pytest.mark.slow
def test_thinking_that_llama_cpp_switches_on_is_named_as_the_cause(run, tmp_path):
    other = Run(tmp_path / "run")
    shutil.copytree(run.path, other.path)
    template = CALLS.replace(
        "[{{ m.reasoning_content }}]", "<think>{{ m.reasoning_content }}</think>"
    )
    template = template.removesuffix("{% endif %}")
    template += "{% if enable_thinking %}<think>{% else %}<think></think>{% endif %}{% endif %}"
    for file in other.path.rglob("chat_template.jinja"):
        file.write_text(template)
    other.update(model_assets={})  # as if training had written it
    (one,) = export(other, "gguf", out=tmp_path)
    assert not one.certificate.passed
    fault = one.certificate.faults[0]
    assert fault.startswith("llama.cpp renders chats with enable_thinking")
    assert 'chat_template_kwargs {"enable_thinking": false}' in fault
