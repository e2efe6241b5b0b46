import itertools
import json
import subprocess
import sys

import pytest
from tokenizers import processors
from typer.testing import CliRunner

from strop.cli.commands.data import data as app
from strop.core.errors import ConfigError
from strop.data import DataError, as_html, check, fix, read, show
from strop.data.checking.report import Lengths, picture
from strop.data.reading.columns import mapping_of
from tests.data import broken, small

CASES = [
    pytest.param(*case, severity, id=name)
    for severity, cases in (
        ("error", broken.ERRORS),
        ("warning", broken.WARNINGS),
        ("info", broken.INFOS),
    )
    for name, case in cases.items()
]


def test_there_are_at_least_sixty_broken_data_sets():
    assert len(CASES) + len(broken.TOKENS) >= 60


@pytest.mark.parametrize(("name", "content", "kind", "lines", "severity"), CASES)
def test_every_fault_is_reported_with_its_line(name, content, kind, lines, severity, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    report = check(path)
    findings = [f for f in report.findings if f.kind == kind]
    assert findings, [f.kind for f in report.findings]
    assert findings[0].severity == severity
    assert findings[0].message
    assert findings[0].remedy
    if lines is not None:
        assert findings[0].rows == lines
    assert report.severe == (severity == "error")


@pytest.mark.parametrize(
    ("content", "arguments", "kind", "severity", "lines"), broken.TOKENS.values(), ids=broken.TOKENS
)
def test_every_fault_of_tokens_is_reported(
    content, arguments, kind, severity, lines, tmp_path, tokenizer
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    report = check(path, tokenizer, **arguments)
    findings = [f for f in report.findings if f.kind == kind]
    assert findings, [f.kind for f in report.findings]
    assert (findings[0].severity, findings[0].rows) == (severity, lines)


def test_good_rows_give_no_finding(tokenizer, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(broken.lines(broken.good()))
    report = check(tmp_path / "a.jsonl", tokenizer, max_length=500)
    assert report.findings == []
    assert (report.total, report.usable, report.format) == (40, 40, "messages")
    assert report.columns == {"messages": 40}
    assert 0 < report.lengths.supervised < report.lengths.total


def test_rows_in_both_parts_are_reported(tmp_path):
    rows = broken.good()
    other = tmp_path / "held.jsonl"
    other.write_bytes(broken.lines(rows[10:12]))
    (tmp_path / "a.jsonl").write_bytes(broken.lines(rows))
    report = check(tmp_path / "a.jsonl", held_out=other)
    assert [(f.kind, f.rows) for f in report.findings] == [("leak", [11, 12])]


def test_rows_nearly_equal_to_a_held_out_one_are_reported(tmp_path):
    row = broken.chat(("user", broken.LONG), ("assistant", "a"))
    near = broken.chat(("user", broken.LONG + " really"), ("assistant", "a"))
    report = check([*broken.good(), row], held_out=[*broken.good(3)[:0], near])
    assert [(f.kind, f.rows) for f in report.findings] == [("near_leak", [41])]


def test_a_template_of_another_model_is_reported(tokenizer):
    tokenizer.chat_template = SMALL_FOREIGN
    report = check(broken.good(), tokenizer)
    assert "unfit_template" in [f.kind for f in report.findings if f.severity == "error"]


SMALL_FOREIGN = (
    "{% for m in messages %}{{ '<|turn_start|>' + m.role + ' ' + m.content + '<|turn_stop|>' }}"
    "{% endfor %}"
)


def test_a_template_that_refuses_rows_names_them(tokenizer):
    tokenizer.chat_template = small.packaged_template("gemma")
    rows = broken.good()
    rows[4]["messages"].insert(0, {"role": "system", "content": "x"})
    report = check(rows, tokenizer)
    refusal = next(f for f in report.findings if f.kind == "template_refuses")
    assert (refusal.rows, refusal.severity) == ([5], "error")
    assert "System role not supported" in refusal.message
    assert report.usable == 39


def test_the_family_template_is_named_where_the_tokenizer_has_none(tokenizer):
    tokenizer.chat_template = None
    report = check(broken.good(), tokenizer)
    assert [f.kind for f in report.findings] == ["family_template"]


def test_a_second_begin_token_is_reported(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert "double_begin" in [f.kind for f in check(broken.good(), tokenizer).findings]


def test_a_second_end_token_is_reported(tokenizer):
    tokenizer.eos_token = "<|im_end|>"
    rows = [{"text": broken.sentence(1) + "<|im_end|>" * 2}, {"text": broken.sentence(2)}]
    lines = {f.kind: f.rows for f in check(rows, tokenizer).findings}
    assert lines["double_end"] == [1]


def test_histogram_counts_every_row_once():
    for counts in ([5], [0, 1, 2], list(range(1000)), [3] * 50 + [90_000]):
        lengths = Lengths(sorted(counts), 1, 0)
        bins = lengths.histogram()
        assert sum(n for _, _, n in bins) == len(counts)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(bins))
        assert bins[-1][1] > counts[-1]
        assert picture(bins).startswith("<svg")


def test_fixing_drops_what_is_broken_and_mends_what_can_be(tmp_path):
    rows = [
        *broken.good(30),
        broken.chat(("user", "cafÃ©\x07?"), ("assistant", "ouÃ¯")),
        broken.good(3)[2],
        "{",
        {"messages": [{"role": "user", "content": "a"}]},
    ]
    (tmp_path / "a.jsonl").write_bytes(broken.lines(rows))
    changes = fix(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert [(c.line, c.action) for c in changes] == [
        (31, "changed"),
        (31, "changed"),
        (32, "dropped"),
        (33, "dropped"),
        (34, "dropped"),
    ]
    cleaned = read(tmp_path / "b.jsonl")
    assert len(cleaned) == 31
    assert [m["content"] for m in cleaned[30].messages] == ["café?", "ouï"]
    assert not check(tmp_path / "b.jsonl").severe
    listed = (tmp_path / "b.changes.jsonl").read_text(encoding="utf-8").splitlines()
    change = {"action": "dropped", "reason": "repeats line 3", "kind": "duplicates"}
    assert json.loads(listed[2]) == {"line": 32, **change}


def test_fixing_never_overwrites_the_source(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(broken.lines(broken.good(2)))
    with pytest.raises(DataError, match="is the source itself"):
        fix(tmp_path / "a.jsonl", tmp_path / "a.jsonl")


def test_fixing_spells_an_answer_one_way(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(broken.labelled({"yes": 30, "no": 30, "Yes": 2}))
    fix(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert {r.messages[-1]["content"] for r in read(tmp_path / "b.jsonl")} == {"yes", "no"}


def test_fixing_labelled_texts_leaves_only_the_labels_that_remain_in_the_instruction(tmp_path):
    rows = [{"text": f"news {i}", "label": ("good", "bad")[i % 2]} for i in range(40)]
    rows += [{"text": "more news", "label": "Good"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fix(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    cleaned = read(tmp_path / "b.jsonl")
    assert cleaned.instruction == "Classify the text as one of: bad, good."
    assert json.loads((tmp_path / "b.jsonl").read_text().splitlines()[-1]) == {
        "text": "more news",
        "label": "good",
    }


def test_a_shown_row_is_the_whole_text_with_what_becomes_of_it(tokenizer):
    row = read([broken.chat(("user", "why 漢字?"), ("assistant", "<b>🙂</b>"))])[0]
    pieces = show(row, tokenizer)
    text = tokenizer.apply_chat_template(row.messages, tokenize=False)
    assert "".join(p.text for p in pieces) == text
    learned = [p.text for p in pieces if p.kind in ("supervised", "special_supervised")]
    assert learned == ["<b>🙂</b>", "<|im_end|>"]
    assert "&lt;b&gt;🙂" in as_html(pieces)
    cut = show(row, tokenizer, max_length=20)
    assert "".join(p.text for p in cut) == text
    assert sum(p.tokens for p in cut if p.kind != "cut") == 20


def test_check_command_shows_findings_and_exits_1_where_one_is_severe(tmp_path):
    (tmp_path / "good.jsonl").write_bytes(broken.lines(broken.good()))
    (tmp_path / "bad.jsonl").write_bytes(broken.with_row("{"))
    run = CliRunner().invoke
    done = run(app, ["check", str(tmp_path / "good.jsonl"), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["findings"]) == (0, [])
    done = run(app, ["check", str(tmp_path / "bad.jsonl"), "--json"])
    assert done.exit_code == 1
    finding = json.loads(done.stdout)["findings"][0]
    assert set(finding) >= {"kind", "severity", "rows", "message", "remedy"}
    done = run(app, ["check", str(tmp_path / "bad.jsonl"), "--fix", str(tmp_path / "mended.jsonl")])
    assert done.exit_code == 1
    assert "bad_json" in done.stdout
    assert "line 8" in done.stdout
    assert len(read(tmp_path / "mended.jsonl")) == 40


def test_columns_are_mapped_on_the_command_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"ask": "why?", "reply": "so"}\n', encoding="utf-8")
    arguments = ["check", str(tmp_path / "a.jsonl"), "--map", "ask=prompt,reply=completion"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with pytest.raises(ConfigError, match="map is 'ask'"):
        mapping_of("ask")


def kinds_in(rows, tokenizer, **arguments):
    report = check(rows, tokenizer, **arguments)
    return {f.kind: (f.severity, f.rows) for f in report.findings}


def test_a_broken_file_of_a_folder_is_reported(tmp_path):
    (tmp_path / "a.txt").write_text("first", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xff\xff")
    assert kinds_in(tmp_path, None) == {"unreadable_file": ("error", [2])}


def test_long_texts_are_reported_as_divided(tokenizer):
    rows = [{"text": "short"}, {"text": broken.sentence(1, 200)}]
    assert kinds_in(rows, tokenizer, max_length=100) == {"divided": ("info", [2])}


def test_undesirable_answers_are_named():
    rows = [{"prompt": f"a{i}", "completion": f"b{i}", "label": i != 1} for i in range(3)]
    assert kinds_in(rows, None) == {"unwanted_answers": ("info", [2])}


def test_answers_that_end_in_the_middle_of_a_sentence_are_named():
    rows = [
        broken.chat(("user", f"q{i}"), ("assistant", broken.sentence(i, 60))) for i in range(30)
    ]
    rows[4]["messages"][1]["content"] = rows[4]["messages"][1]["content"][:-1]
    assert kinds_in(rows, None) == {"unfinished_answers": ("info", [5])}


def test_an_answer_without_an_end_token_is_reported(tokenizer):
    tokenizer.eos_token = None
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    )
    kinds = kinds_in(broken.good(3), tokenizer)
    assert kinds["missing_end"] == ("warning", [1, 2, 3])
    assert kinds["template_without_end"] == ("info", [])


def test_a_missing_begin_token_is_reported(tokenizer):
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert kinds_in(broken.good(3), tokenizer) == {"missing_begin": ("warning", [1, 2, 3])}


def test_without_its_package_near_duplicates_are_reported_as_unchecked():
    code = (
        "import sys; sys.modules['rensa'] = None\n"
        "from strop.data import check\n"
        "rows = [{'prompt': 'a', 'completion': 'b'}, {'prompt': 'c', 'completion': 'd'}]\n"
        "assert [f.kind for f in check(rows).findings] == ['near_duplicates_not_checked']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fix_lists_columns_with_content_that_it_leaves_out(tmp_path):
    rows = [
        {"prompt": f"why {i}?", "completion": f"so {i}", "notes": f"see page {i}"} for i in (1, 2)
    ]
    changes = fix(rows, tmp_path / "clean.jsonl")
    assert [(c.line, c.action) for c in changes] == [(1, "dropped")]
    assert "the column notes ('see page 1'), which is not read" in changes[0].reason
