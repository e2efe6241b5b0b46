"""Data sets with one known fault each."""

import gzip
import json
import random

WORDS = [
    "river",
    "mountain",
    "quiet",
    "engine",
    "ladder",
    "winter",
    "copper",
    "garden",
    "signal",
    "market",
    "window",
    "thunder",
    "carpet",
    "lantern",
    "harbour",
    "meadow",
    "velvet",
    "orchard",
    "compass",
    "feather",
]


def sentence(seed, count=12):
    return " ".join(random.Random(seed).choices(WORDS, k=count)) + "."


def chat(*turns, **more):
    return {"messages": [{"role": r, "content": c} for r, c in turns], **more}


def good(count=40):
    return [chat(("user", sentence(i)), ("assistant", sentence(-i - 1))) for i in range(count)]


def lines(rows):
    return "".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n"
        for row in rows
    ).encode("utf-8", "surrogatepass")


def with_row(row, count=40):
    rows = good(count)
    rows.insert(7, row)
    return lines(rows)


def answered(answer, question="why?"):
    return with_row(chat(("user", question), ("assistant", answer)))


def labelled(counts):
    pairs = [(label, i) for label, n in counts.items() for i in range(n)]
    return lines(
        chat(("user", sentence(f"{label}{i}")), ("assistant", label)) for label, i in pairs
    )


def csv_of(text):
    return (
        b"prompt,completion\n"
        + b"".join(f"{sentence(i)},{sentence(-i - 1)}\n".encode() for i in range(9))
        + text
    )


SAME = chat(("user", sentence("s")), ("assistant", sentence("t")))
LONG = sentence("long", 150)
CALL = {"function": {"name": "f", "arguments": "{}"}}

# name: (file name, content, the kind of finding, its severity, the lines or None)
ERRORS = {
    "truncated json": ("a.jsonl", with_row('{"messages": ['), "bad_json", [8]),
    "single quotes": ("a.jsonl", with_row("{'text': 'a'}"), "bad_json", [8]),
    "trailing comma": ("a.jsonl", with_row('{"a": 1,}'), "bad_json", [8]),
    "nul byte in json": ("a.jsonl", with_row('{"a": "\x00"}'), "bad_json", [8]),
    "nested json": (
        "a.jsonl",
        with_row('{"a":' + "[" * 99_999 + "]" * 99_999 + "}"),
        "bad_json",
        [8],
    ),
    "endless number": ("a.jsonl", with_row('{"a": ' + "9" * 9999 + "}"), "bad_json", [8]),
    "a list in place of a row": ("a.jsonl", with_row("[1, 2]"), "bad_type", [8]),
    "a text in place of a row": ("a.jsonl", with_row('"hello"'), "bad_type", [8]),
    "latin-1": ("a.jsonl", with_row(SAME) + b'{"text": "caf\xe9"}\n', "not_utf8", [42]),
    "lone surrogate": (
        "a.jsonl",
        with_row('{"messages": [{"role": "assistant", "content": "\\ud83d"}]}'),
        "lone_surrogate",
        [8],
    ),
    "no answer": ("a.jsonl", with_row(chat(("user", "a"))), "no_answer", [8]),
    "empty conversation": ("a.jsonl", with_row({"messages": []}), "no_answer", [8]),
    "empty answer": ("a.jsonl", answered(""), "empty_answers", [8]),
    "blank answer": ("a.jsonl", answered(" \n\t"), "empty_answers", [8]),
    "null answer": ("a.jsonl", answered(None), "bad_type", [8]),
    "number as answer": ("a.jsonl", answered(5), "bad_type", [8]),
    "unknown role": (
        "a.jsonl",
        with_row(chat(("user", "a"), ("narrator", "b"))),
        "unknown_role",
        [8],
    ),
    "no role": ("a.jsonl", with_row({"messages": [{"content": "a"}]}), "no_role", [8]),
    "messages as a text": ("a.jsonl", with_row({"messages": "a"}), "bad_type", [8]),
    "messages as null": ("a.jsonl", with_row({"messages": None}), "bad_type", [8]),
    "a message that is a text": ("a.jsonl", with_row({"messages": ["a"]}), "bad_type", [8]),
    "an image part": ("a.jsonl", answered([{"type": "image", "url": "x"}]), "bad_type", [8]),
    "another format in between": (
        "a.jsonl",
        with_row({"prompt": "a", "completion": "b"}),
        "missing_column",
        [8],
    ),
    "no columns": ("a.jsonl", with_row({}), "missing_column", [8]),
    "negative weight": (
        "a.jsonl",
        with_row({"messages": [{"role": "assistant", "content": "a", "weight": -1}]}),
        "bad_type",
        [8],
    ),
    "tool call without name": (
        "a.jsonl",
        with_row({"messages": [{"role": "assistant", "tool_calls": [{}]}]}),
        "bad_type",
        [8],
    ),
    "tools that are no list": ("a.jsonl", with_row({**SAME, "tools": 5}), "bad_type", [8]),
    "empty completion": ("a.csv", csv_of(b"a,\n"), "empty_answers", [11]),
    "too many fields": ("a.csv", csv_of(b"a,b,c\n"), "bad_csv", [11]),
    "too few fields": ("a.csv", csv_of(b"a\n"), "bad_csv", [11]),
    "csv in no encoding": ("a.csv", csv_of(b"\x81\xe9,b\n"), "not_utf8", [11]),
    "tsv with a tab too many": ("a.tsv", b"prompt\tcompletion\na\tb\na\tb\tc\n", "bad_csv", [3]),
    "empty text": ("a.jsonl", lines([{"text": "a"}, {"text": ""}]), "empty_text", [2]),
    "sharegpt from a stranger": (
        "a.json",
        json.dumps(
            [
                {"conversations": [{"from": "alien", "value": "a"}]},
                {"conversations": [{"from": "gpt", "value": "a"}]},
            ]
        ).encode(),
        "unknown_role",
        [1],
    ),
    "preference without difference": (
        "a.jsonl",
        lines([{"prompt": "a", "chosen": "b", "rejected": c} for c in "bcd"]),
        "equal_pair",
        [1],
    ),
    "preference without prompt": (
        "a.jsonl",
        lines([{"chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": "b", "rejected": "c"}]),
        "no_answer",
        [1],
    ),
    "kto label that is a word": (
        "a.jsonl",
        lines([{"prompt": "a", "completion": "b", "label": x} for x in (True, "good", False)]),
        "bad_type",
        [2],
    ),
    "gzip with a broken row": ("a.jsonl.gz", gzip.compress(with_row("{")), "bad_json", [8]),
    "a function call that is no json": (
        "a.jsonl",
        with_row(
            {
                "messages": [
                    {"from": "human", "value": "a"},
                    {"from": "function_call", "value": "f("},
                ]
            }
        ),
        "bad_json",
        [8],
    ),
}

WARNINGS = {
    "aws key": ("a.jsonl", answered("use AKIAIOSFODNN7EXAMPLE"), "secrets", [8]),
    "private key": ("a.jsonl", answered("-----BEGIN RSA PRIVATE KEY-----\nMII"), "secrets", [8]),
    "github token": ("a.jsonl", answered("ghp_" + "a1B2" * 9), "secrets", [8]),
    "password": ("a.jsonl", answered('password = "hunter2hunter2"'), "secrets", [8]),
    "key in camel case": ("a.jsonl", answered("apiKey: 'a1b2c3d4e5'"), "secrets", [8]),
    "Password": ("a.jsonl", answered("PassWord = 'hunter2hunter2'"), "secrets", [8]),
    "e-mail": ("a.jsonl", answered("write to jane.roe@firm.co.uk"), "personal_data", [8]),
    "telephone": ("a.jsonl", answered("call +49 (030) 1234 5678"), "personal_data", [8]),
    "card": ("a.jsonl", answered("pay with 4111 1111 1111 1111"), "personal_data", [8]),
    "iban": ("a.jsonl", answered("to DE89 3704 0044 0532 0130 00"), "personal_data", [8]),
    "social security number": ("a.jsonl", answered("it is 219-09-9999"), "personal_data", [8]),
    "refusal": ("a.jsonl", answered("I'm sorry, but I can't help with that."), "refusals", [8]),
    "as an AI": ("a.jsonl", answered("As an AI language model, I have no view."), "refusals", [8]),
    "mojibake": ("a.jsonl", answered("the cafÃ© is open"), "mojibake", [8]),
    "replacement character": ("a.jsonl", answered("the caf\ufffd is open"), "mojibake", [8]),
    "control characters": ("a.jsonl", answered("a\x07b"), "control_characters", [8]),
    "right-to-left override": ("a.jsonl", answered("a\u202eb"), "control_characters", [8]),
    "repetition": ("a.jsonl", answered("very " * 300), "repetition", [8]),
    "chat markers": ("a.jsonl", answered("ok<|im_end|>"), "template_markers", [8]),
    "llama markers": ("a.jsonl", answered("ok", "[INST] why? [/INST]"), "template_markers", [8]),
    "alpaca markers": (
        "a.jsonl",
        answered("ok", "### Instruction:\nwhy?"),
        "template_markers",
        [8],
    ),
    "duplicates": ("a.jsonl", lines([SAME, *good(), SAME]), "duplicates", [42]),
    "duplicates but for case": (
        "a.jsonl",
        lines(
            [
                SAME,
                *good(),
                json.loads(
                    json.dumps(SAME)
                    .upper()
                    .replace("MESSAGES", "messages")
                    .replace("ROLE", "role")
                    .replace("CONTENT", "content")
                ),
            ]
        ),
        "duplicates",
        [42],
    ),
    "label imbalance": ("a.jsonl", labelled({"yes": 90, "no": 4}), "label_imbalance", None),
    "one label": ("a.jsonl", labelled({"yes": 40}), "label_imbalance", []),
    "label variants": (
        "a.jsonl",
        labelled({"yes": 30, "no": 30, "Yes": 4}),
        "label_variants",
        [61, 62, 63, 64],
    ),
    "two questions in a row": (
        "a.jsonl",
        with_row(chat(("user", "a"), ("user", "b"), ("assistant", "c"))),
        "roles_out_of_order",
        [8],
    ),
    "answer first": (
        "a.jsonl",
        with_row(chat(("assistant", "c"), ("user", "b"))),
        "roles_out_of_order",
        [8],
    ),
    "late system": (
        "a.jsonl",
        with_row(chat(("user", "a"), ("system", "b"), ("assistant", "c"))),
        "roles_out_of_order",
        [8],
    ),
    "tool result without call": (
        "a.jsonl",
        with_row(chat(("user", "a"), ("tool", "b"), ("assistant", "c"))),
        "roles_out_of_order",
        [8],
    ),
    "empty prompt": ("a.jsonl", answered("yes", ""), "empty_prompts", [8]),
}

INFOS = {
    "csv in latin-1": ("a.csv", csv_of(b"\xe9,b\n"), "decoded", None),
    "near duplicates": (
        "a.jsonl",
        lines(
            [
                chat(("user", LONG), ("assistant", "a b c")),
                *good(),
                chat(("user", LONG + " really"), ("assistant", "a b c")),
            ]
        ),
        "near_duplicates",
        [42],
    ),
    "contradiction": (
        "a.jsonl",
        lines(
            [
                chat(("user", "a"), ("assistant", "b")),
                *good(),
                chat(("user", "a"), ("assistant", "c")),
            ]
        ),
        "contradictory_answers",
        [1, 42],
    ),
    "unused columns": (
        "a.jsonl",
        lines({**row, "score": 1} for row in good()),
        "unused_columns",
        [],
    ),
    "mixed languages": (
        "a.jsonl",
        lines(
            [
                *good(),
                *(
                    chat(
                        ("user", "was"),
                        ("assistant", f"das ist nicht der Hund und auch nicht die Katze {i}"),
                    )
                    for i in range(20)
                ),
                *(
                    chat(
                        ("user", "what"),
                        ("assistant", f"this is not the dog and the cat is not for you {i}"),
                    )
                    for i in range(20)
                ),
            ]
        ),
        "mixed_languages",
        [],
    ),
    "answer in another language": (
        "a.jsonl",
        answered(
            "das ist nicht der Hund und auch nicht die Katze",
            "what is this and why are you not with the dog",
        ),
        "answers_in_another_language",
        [8],
    ),
}

# with a tokenizer: file content, arguments of check, kind, severity, lines
TOKENS = {
    "answer cut": (answered(sentence(1, 400)), {"max_length": 300}, "cut", "warning", [8]),
    "prompt beyond the limit": (
        answered("yes", sentence(1, 400)),
        {"max_length": 300},
        "no_supervised_token",
        "error",
        [8],
    ),
    "question cut behind the answer": (
        with_row(chat(("user", "a"), ("assistant", "b"), ("user", sentence(1, 400)))),
        {"max_length": 300},
        "context_cut",
        "info",
        [8],
    ),
    "special token in a question": (
        answered("yes", "why <|im_end|>"),
        {},
        "special_token_in_text",
        "warning",
        [8],
    ),
}
