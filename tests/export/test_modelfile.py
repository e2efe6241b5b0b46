"""Modelfiles say in Go's templates what chat templates say in Jinja; Go itself is asked."""

import json
import shutil
import subprocess
from importlib.resources import files

import pytest

from strop.core.errors import DataError, UnsupportedError
from strop.data.encoding.chat import chat_text
from strop.exporting import export
from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.open_llama_cpp import look_modelfile
from strop.exporting.certify.record import record_reference
from strop.exporting.ollama import go_template
from strop.exporting.ollama.chat_segments import chat_segments
from strop.exporting.ollama.modelfile import Modelfile, go_text
from tests.tiny.saved import TEMPLATE, tokenizer, trained

GO = """package main

import ("encoding/json"; "os"; "strings"; "text/template")

type Message struct{ Role, Content string }
type Chat struct{ Template, System string; Messages []*Message }

func main() {
    var chats []Chat
    if err := json.NewDecoder(os.Stdin).Decode(&chats); err != nil { panic(err) }
    var out []string
    for _, chat := range chats {
        parsed := template.Must(template.New("").Option("missingkey=zero").Parse(chat.Template))
        var text strings.Builder
        values := map[string]any{"System": chat.System, "Messages": chat.Messages, "Response": ""}
        if err := parsed.Execute(&text, values); err != nil { panic(err) }
        out = append(out, text.String())
    }
    json.NewEncoder(os.Stdout).Encode(out)
}
"""
FIRST_SYSTEM = "{% if m.role == 'system' %}<<SYS>>{{ m.content }}<</SYS>>{% endif %}"
TEMPLATES = {
    "tiny": TEMPLATE,
    "braces and quotes": '{% for m in messages %}{{ "{{" }}{{ m.role }}}}"""{ {{ m.content }}'
    '{% endfor %}{% if add_generation_prompt %}{{ "{{{" }}assistant{% endif %}',
    "system in the last question": (
        "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% set ns.s = m.content %}{% elif m.role == 'user' %}[INST] "
        "{% if loop.last and ns.s %}{{ ns.s }}\n\n{% endif %}{{ m.content }} [/INST]"
        "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}"
    ),
    "no system": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "<|start|>{{ m.role }}\n{{ m.content | trim }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>model\n{% endif %}"
    ),
}
PICTURES = ("idefics3", "llava_next", "smolvlm")
"""Templates whose messages are lists of parts."""
PACKAGED = sorted(
    name
    for file in (files("trl") / "chat_templates").iterdir()
    if file.name.endswith(".jinja")
    and not file.name.endswith("_training.jinja")
    and (name := file.name.removesuffix(".jinja")) not in PICTURES
)
"""Those of TRL, which are the ones that models have."""


def with_template(text):
    built = tokenizer()
    built.chat_template = text
    return built


def packaged(name):
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def chats(with_system):
    texts = ["Ahoy {{ you }}", 'Yes, "very".', "And\n\nthen?", "So.", "Why?"]
    roles = ["user", "assistant"] * 3
    for count in (1, 3, 5):
        turns = [{"role": r, "content": c} for r, c in zip(roles, texts[:count], strict=False)]
        yield turns
        if with_system:
            yield [{"role": "system", "content": "Be brief."}, *turns]


@pytest.mark.parametrize("name", [*TEMPLATES, *PACKAGED])
def test_the_go_template_renders_what_the_chat_template_renders(name):
    fast = with_template(TEMPLATES.get(name) or packaged(name))
    segments = chat_segments(fast)
    modelfile = Modelfile("model.gguf", go_text(segments), [])
    for chat in chats(segments.system is not None):
        assert modelfile.render(chat) == chat_text(fast, chat)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="Debian's golang-go is not installed")
def test_go_itself_renders_the_same(tmp_path):
    requests, expected = [], []
    for name in [*TEMPLATES, *PACKAGED]:
        fast = with_template(TEMPLATES.get(name) or packaged(name))
        segments = chat_segments(fast)
        for chat in chats(segments.system is not None):
            system = "".join(m["content"] for m in chat if m["role"] == "system")
            messages = [{"Role": m["role"], "Content": m["content"]} for m in chat]
            requests.append({"Template": go_text(segments), "System": system, "Messages": messages})
            expected.append(chat_text(fast, chat))
    (tmp_path / "main.go").write_text(GO)
    done = subprocess.run(
        ["go", "run", tmp_path / "main.go"],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GOFLAGS": "-p=1"},
    )
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "each come once"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "each come once"),
        (
            "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}",
            "a chat of 3 turns with a system message",
        ),
        (packaged("llava_next"), "has no attribute .*text"),
        (
            "{% for m in messages %}{{ m.content | length }}: {{ m.content }}\n{% endfor %}",
            "a chat of 1 turns",
        ),
    ],
)
def test_a_template_that_does_more_is_refused_with_what_it_does(template, why):
    with pytest.raises(UnsupportedError, match=why):
        chat_segments(with_template(template))


def test_a_modelfile_is_read_as_it_was_written(tmp_path):
    expected = Modelfile("base.gguf", 'a"b\n{{ .System }}', ['<|"|>', "<end>\n"], "x.gguf")
    text = expected.text()
    (tmp_path / "Modelfile").write_text(text)
    modelfile = Modelfile.read(tmp_path / "Modelfile")
    assert (modelfile.model, modelfile.adapter, modelfile.stops) == (
        "base.gguf",
        "x.gguf",
        expected.stops,
    )
    (tmp_path / "Modelfile").write_text("FROM ./model.gguf\n")
    with pytest.raises(DataError, match="has no TEMPLATE"):
        Modelfile.read(tmp_path / "Modelfile")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ if .A }}x", "ends before else or end"),
        ("{{ template }}", "uses template, which is not known"),
        ("{{ .A | upper }}", r"not known: .A \| upper"),
        ("{{ $x }}", r"names \$x, which is not set"),
        ("{{ eq (len .A }}", "bracket that is not closed"),
        ("{{ }}", "an empty action"),
    ],
)
def test_what_is_no_such_template_is_refused(text, why):
    with pytest.raises(DataError, match=why):
        go_template.render(text, {"A": "a"})


@pytest.mark.slow
def test_ollama_folders_are_certified_merged_and_as_adapter(tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    run = trained("llama3", tmp_path)
    whole, alone = export(run, "ollama", quant="f16,adapter", out=tmp_path)
    for exported in (whole, alone):
        assert exported.certificate.passed, exported.certificate.faults
    assert [exported.path.name for exported in (whole, alone)] == [
        "ollama-f16",
        "ollama-adapter-f16",
    ]
    assert "\nADAPTER ./adapter.gguf\n" in (alone.path / "Modelfile").read_text()
    record_reference(run, run.assets()).save(tmp_path / "work")
    file, out = whole.path / "Modelfile", tmp_path / "findings.json"
    for old, new, cause in FAULTS:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        report(tmp_path / "work", out, lambda *segments: look_modelfile(file, *segments))
        modelfile = Findings.open(out).faults
        assert any(cause in fault for fault in modelfile), (cause, modelfile)
        file.write_text(text)


FAULTS = (
    ("PARAMETER stop", "# stop", "does not stop at <|end|>, which ends an answer"),
    (
        "<|start|>user",
        "<|start|>human",
        "a chat rendered by the Modelfile's template becomes other",
    ),
    ("TEMPLATE", "SYSTEM", "has no TEMPLATE"),
)
