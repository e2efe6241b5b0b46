import json

import datasets
import huggingface_hub
import pandas
import pytest

from strop.data import DataError, read

QUESTION = {"role": "user", "content": "What is 1+1?"}
ANSWER = {"role": "assistant", "content": "2"}

SAME = {
    "messages": {"messages": [QUESTION, ANSWER]},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "What is 1+1?"},
            {"from": "gpt", "value": "2"},
        ]
    },
    "prompt": {"prompt": "What is 1+1?", "completion": "2"},
    "prompt of messages": {"prompt": [QUESTION], "completion": [ANSWER]},
    "alpaca": {"instruction": "What is 1+1?", "input": "", "output": "2"},
    "question": {"question": "What is 1+1?", "answer": "2"},
}


@pytest.mark.parametrize("row", SAME.values(), ids=SAME)
def test_every_layout_of_columns_gives_the_same_conversation(row, jsonl):
    rows = read(jsonl(row, row))
    assert rows[1].messages == [QUESTION, ANSWER]
    assert [r.line for r in rows] == [1, 2]


def test_alpaca_input_follows_the_instruction():
    rows = read([{"instruction": "Translate.", "input": "Haus", "output": "house"}])
    assert rows[0].messages[0]["content"] == "Translate.\n\nHaus"


def test_system_prompt_of_a_sharegpt_row_comes_first():
    rows = read([{**SAME["sharegpt"], "system": "Be short."}])
    assert [m["role"] for m in rows[0].messages] == ["system", "user", "assistant"]


def test_every_kind_of_file_gives_the_same_rows(tmp_path, jsonl):
    rows = [{"prompt": f'a, "{i}"\nnew line', "completion": "b;ü"} for i in range(3)]
    table = pandas.DataFrame(rows)
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "nested.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    jsonl(*rows)
    jsonl(*rows, name="lines.json")
    sources = [*sorted(tmp_path.iterdir()), datasets.Dataset.from_list(rows), rows]
    assert len(sources) == 9
    for source in sources:
        assert [r.messages for r in read(source)] == [r.messages for r in read(rows)], source


def test_a_folder_that_datasets_wrote_gives_the_same_rows(tmp_path):
    rows = [SAME["prompt"], {"prompt": "Why?", "completion": "So."}]
    dataset = datasets.Dataset.from_list(rows)
    dataset.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "both")
    for folder in (tmp_path / "one", tmp_path / "both" / "train"):
        assert [r.messages for r in read(folder)] == [r.messages for r in read(rows)]
    with pytest.raises(DataError, match=r"has the splits test, train; give one, as .*both/test"):
        read(tmp_path / "both")


@pytest.mark.parametrize("harm", [lambda p: p.unlink(), lambda p: p.write_bytes(b"not arrow")])
def test_a_damaged_folder_of_datasets_is_named(harm, tmp_path):
    datasets.Dataset.from_list([SAME["prompt"]]).save_to_disk(tmp_path / "one")
    for file in (tmp_path / "one").glob("*.arrow"):
        harm(file)
    with pytest.raises(DataError, match=r"one.*cannot be read"):
        read(tmp_path / "one")


def test_line_numbers_of_a_csv_count_lines_not_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\n"a\nb",c\nd,\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 4: completion is empty"):
        read(path)


def test_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(SAME["prompt"]).encode() + b"\n\n\n")
    assert len(read(path)) == 1


BROKEN = {
    "bad json": ('{"prompt": "a"', "not valid JSON"),
    "list": ("[1]", "is a list, not an object"),
    "no answer": ({"messages": [QUESTION]}, "no answer: no message has the role assistant"),
    "empty answer": (
        {"messages": [QUESTION, {"role": "assistant", "content": " \n"}]},
        "message 2 is empty",
    ),
    "role": (
        {"messages": [QUESTION, {"role": "narrator", "content": "x"}]},
        "unknown role 'narrator'",
    ),
    "no role": ({"messages": [{"content": "x"}]}, "message 1 has no role"),
    "content type": (
        {"messages": [{"role": "user", "content": 3}, ANSWER]},
        "message 1 is a number",
    ),
    "message type": ({"messages": ["hi", ANSWER]}, "message 1 is a text"),
    "column type": ({"messages": "hi"}, "messages is a text, not a list"),
    "missing column": ({"text": "hi"}, "has no column messages"),
    "surrogate": (
        '{"messages": [{"role": "assistant", "content": "\\ud83d"}]}',
        "half a character",
    ),
    "nested": ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
}


@pytest.mark.parametrize(("row", "reason"), BROKEN.values(), ids=BROKEN)
def test_each_fault_is_named_with_its_line(row, reason, jsonl):
    with pytest.raises(DataError, match="1 of 4 rows cannot be used") as caught:
        read(jsonl(*[SAME["messages"]] * 2, row, SAME["messages"]))
    assert "line 3: " in str(caught.value)
    assert reason in str(caught.value)


def test_every_broken_row_is_listed_at_once(jsonl):
    with pytest.raises(DataError) as caught:
        read(jsonl(SAME["messages"], *(row for row, _ in BROKEN.values()), SAME["messages"]))
    faulty = {fault.line for fault in caught.value.faults}
    assert faulty == set(range(2, 2 + len(BROKEN)))


def test_bytes_that_are_not_utf8_are_located(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(SAME["prompt"]).encode()
    path.write_bytes(good + b"\n" + good.replace(b"What", b"Wh\xe4t") + b"\n")
    offset = path.read_bytes().index(b"\xe4")
    with pytest.raises(DataError, match=f"line 2: not UTF-8: byte 0xe4 at offset {offset}"):
        read(path)


def test_a_csv_row_that_is_not_utf8_is_located(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,completion\na,b\n\xff,c\n")
    with pytest.raises(DataError, match="line 3: not UTF-8: byte 0xff at offset 22"):
        read(path)


def test_a_csv_row_with_too_many_fields_is_a_fault(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,b\na,b,c\n", encoding="utf-8")
    with pytest.raises(
        DataError, match="line 3: has 3 fields where the first line names 2 columns"
    ):
        read(path)


def test_unknown_columns_are_answered_with_the_known_ones(jsonl):
    with pytest.raises(
        DataError, match=r"has the columns ask, reply.*Known are: .*messages;.*text"
    ):
        read(jsonl({"ask": "a", "reply": "b"}))


def test_columns_can_be_mapped(jsonl):
    rows = read(
        jsonl({"ask": "What is 1+1?", "reply": "2"}),
        mapping={"ask": "prompt", "reply": "completion"},
    )
    assert rows[0].messages == [QUESTION, ANSWER]
    with pytest.raises(DataError, match="did you mean reply"):
        read(jsonl({"ask": "a", "reply": "b"}), mapping={"replay": "completion"})


def test_most_rows_not_the_first_decide_the_format(jsonl):
    with pytest.raises(DataError, match="line 1: has no column prompt"):
        read(jsonl({"text": "stray"}, SAME["prompt"], SAME["prompt"]))


def test_sources_that_hold_nothing_give_one_clear_error(tmp_path, jsonl):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n\n", encoding="utf-8")
    (tmp_path / "head.csv").write_text("prompt,completion\n", encoding="utf-8")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for name, reason in {
        "empty.jsonl": "is empty",
        "blank.jsonl": "holds no rows",
        "head.csv": "holds no rows",
        "absent.jsonl": "there is no file .*blank.jsonl",
        "": "is a folder",
        "bad.parquet": "not a readable Parquet file",
    }.items():
        with pytest.raises(DataError, match=reason):
            read(tmp_path / name)
    with pytest.raises(DataError, match="holds no rows"):
        read([])


def test_a_text_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "rows.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"files named \*\.docx are not read"):
        read(tmp_path / "rows.docx")


def test_a_data_set_of_the_hub_is_refused_shortly_where_the_hub_is_off(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="the hub is switched off by HF_HUB_OFFLINE; give a file"):
        read("hf:owner/name:train")
    for name in ("hf:", "hf:a/b/c", "hf:../x"):
        with pytest.raises(DataError, match="names no data set; write hf:owner/name"):
            read(name)
    with pytest.raises(DataError, match="a data set of the hub is written hf:owner/name"):
        read("owner/name")


def test_a_folder_with_tables_below_its_readme_is_refused(tmp_path, jsonl):
    (tmp_path / "README.md").write_text("# Questions\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    jsonl({"prompt": "a", "completion": "b"}, name="data/train.jsonl")
    with pytest.raises(DataError, match=r"a folder with data/train.jsonl; give one, as .*data"):
        read(tmp_path)
