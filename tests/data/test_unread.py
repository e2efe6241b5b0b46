"""Columns that are not read: text read already, categories, and what is lost without them."""

import json

import pytest

from strop.data import check, read


def chat(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


QUESTIONS = ["Why does it rain?", "Who won\nthe cup?", "Is it late?"]
ANSWERS = ["Clouds cool and drop water.", "Five of them did.", "It is just past noon."]
PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))
REPEATED = {
    "UltraChat": [
        {"prompt": q, "prompt_id": f"{i:064x}", "messages": chat(q, a)}
        for i, (q, a) in enumerate(PAIRS)
    ],
    "UltraFeedback": [
        {
            **{"prompt": q, "prompt_id": f"{i:064x}", "messages": chat(q, a)},
            **{"chosen": chat(q, a), "rejected": chat(q, f"No {a}")},
            **{"score_chosen": 8.0 + i, "score_rejected": 2.0 + i},
        }
        for i, (q, a) in enumerate(PAIRS)
    ],
    "a question beside conversations": [
        {"question": f" {q}\n", "conversations": [{"from": "human", "value": q}, *chat(q, a)[1:]]}
        for q, a in PAIRS
    ],
    "the last answer of a longer one": [
        {"question": q, "response": f"Think. {a}", "final": a} for q, a in PAIRS
    ],
    "the messages as JSON": [
        {"prompt": q, "completion": a, "turns": json.dumps(chat(q, a))} for q, a in PAIRS
    ],
    "Alpaca's text": [
        {"instruction": q, "output": a, "text": f"Below is a task.\n\n## Ask:\n{q}\n\n## Say:\n{a}"}
        for q, a in PAIRS
    ],
}


@pytest.mark.parametrize("rows", REPEATED.values(), ids=REPEATED)
def test_text_that_is_read_already_is_no_lost_content(rows):
    assert not read(rows).unread
    assert not check(rows).severe


LOST = {
    "another text": [{"messages": chat(q, a), "prompt": f"Hm, {a}"} for q, a in PAIRS],
    "inside of a word": [
        {"prompt": q, "completion": f"un{w}ed {a}", "word": w}
        for (q, a), w in zip(PAIRS, ("test", "load", "limit"), strict=True)
    ],
    "a name in a plain text": [
        {"text": f"Then {w} came to the door.", "person": w} for w in ("Ada", "Bo", "Cy")
    ],
    "a label among those of the prompt": [
        {"prompt": f"pos or neg? {q}", "completion": a, "label": w}
        for (q, a), w in zip(PAIRS * 2, ("pos", "neg") * 3, strict=True)
    ],
    "a solution of which the answer was read": [
        {"question": q, "answer": a, "solution": f"Because {q} leads to {i}, {a}"}
        for i, (q, a) in enumerate(PAIRS)
    ],
    "a style of the answer": [
        {"prompt": q, "completion": a, "style": s}
        for (q, a), s in zip(PAIRS * 2, ("short", "long") * 3, strict=True)
    ],
    "topics of several words": [
        {"prompt": q, "completion": a, "category": f"birds of {i}"}
        for i, (q, a) in enumerate(PAIRS)
    ],
    "a category of plain texts": [
        {"prompt": q, "category": c} for q, c in zip(QUESTIONS, ("qa", "sum", "qa"), strict=True)
    ],
}


@pytest.mark.parametrize("rows", LOST.values(), ids=LOST)
def test_text_that_stands_elsewhere_by_chance_or_not_at_all_is_content(rows):
    assert len(read(rows).unread) == 1


SORTED = {
    "Dolly's category": ("category", ["open_qa", "summarization", "closed_qa"]),
    "task_type": ("task_type", ["qa", "code", "qa"]),
    "difficulty": ("Difficulty", ["easy", "hard", "medium"]),
    "a name of two words": ("questionType", ["open", "closed", "open"]),
    "another name": ("partition", ["north", "south"] * 3),
    "levels of two words": ("level", ["Level one", "Level two"] * 3),
}


@pytest.mark.parametrize(("name", "values"), SORTED.values(), ids=SORTED)
def test_a_category_beside_questions_and_answers_is_named_and_stops_nothing(name, values):
    rows = [
        {"instruction": q, "context": "", "response": a, name: value}
        for (q, a), value in zip(PAIRS * 2, values, strict=False)
    ]
    assert not read(rows).unread
    notes = [f for f in check(rows).findings if f.kind == "columns_understood"]
    assert [f.severity for f in notes] == ["info"]
    assert notes[0].message.startswith(f"{name} ({values[0]!r}) is taken for a category")


def test_the_way_on_from_a_category_is_a_column_that_its_format_reads():
    rows = [{"messages": chat(q, a), "category": "Chat" if a[0] == "C" else "QA"} for q, a in PAIRS]
    assert read(rows).notes[0].endswith("--map category=system reads it")
    assert read(rows, mapping={"category": "system"})[0].messages[0]["content"] == "Chat"
