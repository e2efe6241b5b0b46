"""Files as people really have them: read right, or told what is wrong, and nothing lost silently."""

import gzip
import json
import re
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from strop.cli.commands.data import data as app
from strop.cli.flags import UsageError
from strop.data import DataError, check, fix, read
from strop.data.checking.finding_kinds import KINDS
from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.tool_calls import tools_in
from strop.data.preview import row_at

PAIRS = [(f"question {i}?", f"answer {i}") for i in range(3)]
CHATS = [
    {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
    for q, a in PAIRS
]
COLUMNS = {
    "prompt": [q for q, _ in PAIRS],
    "completion": [a for _, a in PAIRS],
}
LINES = [json.dumps(row) for row in CHATS]
CALL = {"name": "rain", "arguments": '{"city": "Oslo"}'}


def table(separator, *, end="\n", head="", behind=""):
    rows = ["prompt" + separator + "completion", *(q + separator + a for q, a in PAIRS)]
    return (head + "".join(row + behind + end for row in rows)).encode()


READ = {
    "windows newlines": ("a.jsonl", "\r\n".join(LINES).encode()),
    "byte-order marks in the middle": ("a.jsonl", "".join(f"\ufeff{x}\n" for x in LINES).encode()),
    "a list named jsonl": ("a.jsonl", json.dumps(CHATS).encode()),
    "an indented list named jsonl": ("a.jsonl", json.dumps(CHATS, indent=2).encode()),
    "indented objects named jsonl": (
        "a.jsonl",
        "\n".join(json.dumps(row, indent=2) for row in CHATS).encode(),
    ),
    "objects without commas": ("a.json", "".join(json.dumps(r, indent=1) for r in CHATS).encode()),
    "lines named json": ("a.json", "\n".join(LINES).encode()),
    "one list under a name": ("a.json", json.dumps({"version": 1, "rows": CHATS}).encode()),
    "a table by columns": ("a.json", json.dumps(COLUMNS).encode()),
    "a table as pandas writes it": ("a.json", pandas.DataFrame(COLUMNS).to_json().encode()),
    "semicolons": ("a.csv", b"\xef\xbb\xbf" + table(";", end="\r\n")),
    "columns that Excel left empty": ("a.csv", table(";", behind=";;") + b";;;\r\n;;;\r\n"),
    "the separator in the first line": ("a.csv", table(";", head="sep=;\r\n", end="\r\n")),
    "carriage returns alone": ("a.csv", table(",", end="\r")),
    "an unnamed index": ("a.csv", pandas.DataFrame(COLUMNS).to_csv().encode()),
    "capital letters": ("a.csv", table(",").replace(b"prompt", b"Prompt ", 1)),
    "tabs in gzip": ("a.tsv.gz", gzip.compress(table("\t"))),
    "chats as JSON in a table": (
        "a.csv",
        pandas.DataFrame({"messages": [json.dumps(r["messages"]) for r in CHATS]})
        .to_csv(index=False)
        .encode(),
    ),
    "human and gpt beside user and assistant": (
        "a.jsonl",
        "\n".join(
            json.dumps(
                {
                    "conversations": [
                        {"from": "human", "value": q},
                        {"role": " Assistant", "content": a},
                    ]
                }
            )
            for q, a in PAIRS
        ).encode(),
    ),
}


@pytest.mark.parametrize(("name", "content"), READ.values(), ids=READ)
def test_it_is_read_as_it_is_meant(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    contents = [tuple(m["content"] for m in row.messages) for row in read(tmp_path / name)]
    assert contents == PAIRS
    assert not check(tmp_path / name).severe


def chat(answer, **more):
    return {
        "messages": [{"role": "user", "content": "why?"}, {"role": "assistant", **answer}],
        **more,
    }


def deep(levels):
    return '{"x":' * levels + "1" + "}" * levels


FAULTY = {
    "a key that stands twice": ('{"prompt": "a", "prompt": "b", "completion": "c"}', "bad_json"),
    "a weight that is no number": (chat({"content": "b", "weight": float("nan")}), "bad_type"),
    "a weight without end": (chat({"content": "b", "weight": float("inf")}), "bad_type"),
    "a weight in words": (chat({"content": "b", "train": "no"}), "bad_type"),
    "a tool that is a name": (chat({"content": "b"}, tools=["rain"]), "bad_json"),
    "a tool that is a number": (chat({"content": "b"}, tools=[5]), "bad_type"),
    "half a character in a key": (
        json.dumps(chat({"tool_calls": [{"name": "f", "arguments": {"\ud83d": 1}}]})),
        "lone_surrogate",
    ),
    "an object 70 levels deep": (
        chat({"tool_calls": [{"name": "f", "arguments": deep(70)}]}),
        "bad_json",
    ),
    "an object 900 levels deep": (
        chat({"tool_calls": [{"name": "f", "arguments": deep(900)}]}),
        "bad_json",
    ),
    "parts within parts": (chat({"content": [[{"type": "text", "text": "b"}]]}), "bad_type"),
    "content as an object": (chat({"content": {"text": "b"}}), "bad_type"),
    "an empty turn in between": (
        {"messages": [*chat({"content": ""})["messages"], *CHATS[0]["messages"]]},
        "empty_answers",
    ),
    "an answer that pandas lost": (chat({"content": "NaN"}), "placeholder_answers"),
    "an answer somebody deleted": (chat({"content": "[deleted]"}), "placeholder_answers"),
    "a key in the reasoning": (
        chat({"content": "b", "reasoning": "AKIAIOSFODNN7EXAMPLE"}),
        "secrets",
    ),
    "a key in a tool call": (
        chat({"tool_calls": [{"name": "f", "arguments": {"key": "AKIAIOSFODNN7EXAMPLE"}}]}),
        "secrets",
    ),
}


@pytest.mark.parametrize(("row", "kind"), FAULTY.values(), ids=FAULTY)
def test_a_faulty_row_is_reported_with_its_line(row, kind, tmp_path):
    text = row if isinstance(row, str) else json.dumps(row)
    lines = [LINES[0], text, LINES[1]]
    if "prompt" in text[:9]:
        lines = [json.dumps({"prompt": q, "completion": a}) for q, a in PAIRS]
        lines[1] = text
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    findings = check(tmp_path / "a.jsonl").findings
    assert [f.rows for f in findings if f.kind == kind] == [[2]], findings
    assert {f.kind for f in findings if f.severity == "error"} <= {kind}


CROOKED = {
    "a history that is a number": ({"history": 5}, "history is a number, not a list"),
    "a history of numbers": ({"history": [[1, 2]]}, r"not a list of \[question, answer\] texts"),
    "a history without answer": ({"history": [["a", None]]}, "not a list of"),
    "empty lists and a system prompt": (
        {"prompt": [], "completion": [], "system": "s"},
        "no message has the role assistant",
    ),
}


@pytest.mark.parametrize(("more", "reason"), CROOKED.values(), ids=CROOKED)
def test_crooked_columns_are_faults_not_crashes(more, reason):
    with pytest.raises(DataError, match="line 1: .*" + reason):
        read([{"prompt": "a", "completion": "b", **more}, {"prompt": "a", "completion": "b"}])


REFUSED = {
    "one message a row": (
        '{"role": "user", "content": "a"}\n{"role": "assistant", "content": "b"}\n',
        "one message a row",
    ),
    "rows without columns": ("{}\n{}\n", "no columns"),
    "gzip by another name": (gzip.compress(b"{}"), "not UTF-8 but gzip"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_says_nothing_clear_is_refused(content, reason, tmp_path):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read(tmp_path / "a.jsonl")


def test_one_chat_alone_in_a_file_is_one_row(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(CHATS[0], indent=1), encoding="utf-8")
    rows = read(tmp_path / "a.json")
    assert (rows.format, len(rows)) == ("messages", 1)


def test_openais_first_form_of_tool_calls_is_read_as_the_present_one():
    rows = read([{**chat({"content": "let me see", "function_call": CALL}), "functions": [CALL]}])
    assert rows[0].messages[1]["tool_calls"] == [
        {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
    ]
    assert rows[0].tools == [{"type": "function", "function": CALL}]


def test_tools_may_be_texts_of_json_each():
    tool = {"type": "function", "function": {"name": "rain"}}
    assert tools_in({"tools": [json.dumps(tool)]}) == [tool]
    with pytest.raises(FaultyRecordError, match="tool 2 is a number"):
        tools_in({"tools": [tool, 3]})


def test_nulls_that_a_table_put_into_arguments_are_removed(tmp_path):
    calls = [{"city": "Oslo"}, {"day": 3}]
    rows = [chat({"content": None, "tool_calls": [{"name": "f", "arguments": a}]}) for a in calls]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    arguments = [
        row.messages[1]["tool_calls"][0]["arguments"] for row in read(tmp_path / "a.parquet")
    ]
    assert arguments == calls


def test_a_bomb_in_parquet_is_refused(tmp_path):
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), ["x" * 1000])
    pq.write_table(pa.table({"text": one}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="grows to more than 200 times its size"):
        read(tmp_path / "a.parquet")


def test_csv_rows_that_are_broken_are_named_one_by_one(tmp_path):
    (tmp_path / "a.tsv").write_text('prompt\tcompletion\na\tb\n"He" said\tc\nd\te\n"f\tg\nh\ti\n')
    with pytest.raises(DataError, match="2 of 4 rows cannot be used") as caught:
        read(tmp_path / "a.tsv")
    assert [fault.line for fault in caught.value.faults] == [3, 5]
    assert "is not closed up to line 6" in str(caught.value)


def test_a_column_that_is_mapped_onto_another_is_refused():
    row = {"question": "a", "prompt": "b", "completion": "c"}
    with pytest.raises(DataError, match="has another column of that name"):
        read([row], mapping={"question": "prompt"})
    swapped = read([row], mapping={"question": "prompt", "prompt": "question"})
    assert swapped[0].messages[0]["content"] == "a"


def test_rows_that_differ_only_in_what_they_call_are_no_duplicates(tmp_path):
    rows = [chat({"tool_calls": [{"name": "f", "arguments": {"x": i}}]}) for i in range(5)]
    rows += [chat({"content": "same", "reasoning": thought}) for thought in ("a", "b")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert "duplicates" not in {f.kind for f in check(tmp_path / "a.jsonl").findings}
    assert fix(tmp_path / "a.jsonl", tmp_path / "b.jsonl") == []
    assert len(read(tmp_path / "b.jsonl")) == 7


def test_fixing_keeps_rows_that_differ_in_case_spaces_or_label(tmp_path):
    answers = ("if a:\n  b\nc", "if a:\n  b\n  c", "IF A:\n  B\nC")
    rows = [{"prompt": "fix", "completion": a, "label": b} for a in answers for b in (True, False)]
    assert fix(rows, tmp_path / "b.jsonl") == []
    cleaned = read(tmp_path / "b.jsonl")
    assert [row.label for row in cleaned] == [True, False] * 3


def test_fixing_mends_rejected_answers_and_keeps_prompts_without_answer(tmp_path):
    fix([{"prompt": "a", "chosen": "b", "rejected": "cafÃ©"}], tmp_path / "b.jsonl")
    assert read(tmp_path / "b.jsonl")[0].rejected[-1]["content"] == "café"
    fix([{"prompt": "a"}, {"prompt": "b"}], tmp_path / "c.jsonl")
    assert read(tmp_path / "c.jsonl").format == "prompt"
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        fix([{"prompt": "a"}], tmp_path / "c.csv")


def test_prompts_without_answers_are_no_error(tokenizer):
    report = check([{"prompt": f"write about {i}"} for i in range(3)], tokenizer)
    assert [f.kind for f in report.findings] == ["prompts_alone"]
    assert (report.usable, report.lengths.supervised) == (3, 0)
    assert report.lengths.total > 0


def test_a_row_of_weight_zero_says_why_nothing_is_learned(tokenizer):
    findings = check([*CHATS, chat({"content": "b", "weight": 0})], tokenizer).findings
    assert [(f.kind, f.rows) for f in findings] == [("no_supervised_token", [4])]
    assert "every answer in it has the weight 0" in findings[0].message


def test_pairs_that_differ_only_in_space_are_equal():
    rows = [{"prompt": "a", "chosen": "b", "rejected": c} for c in ("b \n", "c")]
    with pytest.raises(DataError, match="line 1: chosen and rejected are equal"):
        read(rows)


def test_a_row_is_shown_though_another_is_broken(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join([LINES[0], "{", LINES[1]]), encoding="utf-8")
    assert row_at(tmp_path / "a.jsonl", 3).messages == CHATS[1]["messages"]
    with pytest.raises(DataError, match="row at line 2 cannot be used: not valid JSON"):
        row_at(tmp_path / "a.jsonl", 2)
    with pytest.raises(DataError, match="no row at line 9; its rows stand at 1 to 3"):
        row_at(tmp_path / "a.jsonl", 9)


def test_what_data_says_to_a_terminal_is_shown_not_obeyed(tmp_path):
    evil = json.dumps(chat({"content": "b\x1b[2J\x07"}, **{"\ud83d\x1b[1m": 1}))
    (tmp_path / "a.jsonl").write_text(evil + "\n" + evil, encoding="utf-8")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "a.jsonl")])
    assert done.exit_code == 0
    assert "\x1b[2J" not in done.stdout
    assert r"\x1b[2J" in done.stdout
    assert r"\ud83d" in done.stdout
    done = CliRunner().invoke(app, ["check", str(tmp_path / "a.jsonl"), "--json"])
    assert "\ud83d\x1b[1m" in json.loads(done.stdout)["columns"]


@pytest.mark.parametrize(
    ("option", "value"), [("--picture", "a.svg"), ("--speed", "9"), ("--max-length", "9")]
)
def test_an_option_that_would_do_nothing_is_refused(option, value, tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES[0], encoding="utf-8")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "a.jsonl"), option, value])
    assert isinstance(done.exception, UsageError)
    assert f"{option} needs --model" in str(done.exception)


def test_every_kind_of_finding_is_named_in_some_test():
    tests = "".join(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
    named = set(re.findall(r"[\"']([a-z_0-9]+)[\"']", tests))
    assert KINDS.keys() - named == set()
