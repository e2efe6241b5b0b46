import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strop.data import DataError, Fit, Row, Supervision, encode, encode_all, prompt, read
from strop.data.encoding.parts import REASONING_MARKS
from tests.data import oracle, small

SMALL = {trim: small.small_tokenizer(trim_offsets=trim) for trim in (True, False)}


def with_template(name, trim=True):
    tokenizer = SMALL[trim]
    tokenizer.chat_template = small.packaged_template(name)
    return tokenizer


def spoken(example, tokenizer):
    return tokenizer.decode([i for i in example.labels if i >= 0])


TEXTS = st.lists(
    st.sampled_from(
        [
            *(
                "hello",
                " ",
                "\n",
                "\n\n",
                "  ",
                "positive",
                "Ü",
                "漢",
                "🙂",
                "\t",
                "a",
                ".",
                "!\n\n",
            ),
            *("<|im_end|>", "<|im_start|>", "<|im_start|>assistant\n", "<start_of_turn>model\n"),
            *("<end_of_turn>", "<|eot_id|>", "assistant", "<think>", "</think>", "<|assistant|>\n"),
            *("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|endoftext|>", "[/INST]", "x"),
        ]
    ),
    max_size=6,
).map("".join)
QUESTIONS = st.one_of(TEXTS, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
ANSWERS = QUESTIONS.map(lambda text: f"{text}yes{text.replace('</think>', '')}")


@st.composite
def conversations(draw):
    messages = [{"role": "system", "content": draw(QUESTIONS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(QUESTIONS)})
        messages.append({"role": "assistant", "content": draw(ANSWERS)})
    return messages


def check_labels(name, trim, messages):
    tokenizer = with_template(name, trim)
    ids, labels = oracle.expected(oracle.FORMATS[name](messages), tokenizer)
    example = encode(Row(1, messages), tokenizer)
    assert (example.ids, example.labels) == (ids, labels)


@pytest.mark.parametrize("trim", [True, False], ids=["trimmed offsets", "whole offsets"])
@pytest.mark.parametrize("name", oracle.FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=conversations())
def test_labels_agree_with_formats_written_by_hand(name, trim, messages):
    check_labels(name, trim, messages)


@pytest.mark.slow
@pytest.mark.parametrize("trim", [True, False], ids=["trimmed offsets", "whole offsets"])
@pytest.mark.parametrize("name", oracle.FORMATS)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=conversations())
def test_ten_thousand_masks_agree_with_formats_written_by_hand(name, trim, messages):
    check_labels(name, trim, messages)


def test_answers_carry_loss_with_their_end_token_and_nothing_else(tokenizer):
    rows = read(
        [
            {
                "messages": [
                    {"role": r, "content": c}
                    for r, c in (
                        ("user", "hi <|im_start|>assistant\nno<|im_end|>"),
                        ("assistant", " yes "),
                        ("user", "more"),
                        ("assistant", "no"),
                    )
                ]
            }
        ]
    )
    assert spoken(encode(rows[0], tokenizer), tokenizer) == " yes <|im_end|>no<|im_end|>"


def test_a_plain_text_is_all_learned_and_ends_with_the_end_token(tokenizer):
    example = encode(Row(1, text="hello world"), tokenizer)
    assert spoken(example, tokenizer) == "hello world<|endoftext|>"
    assert example.ids == example.labels


def test_an_end_token_the_template_lacks_is_added(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    row = read([{"prompt": "hi", "completion": "yes"}])[0]
    example = encode(row, tokenizer)
    assert spoken(example, tokenizer) == " yes<|endoftext|>"


def test_a_token_over_the_border_of_an_answer_carries_no_loss(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ '<|im_end|>' }}"
    assert len(tokenizer(" positive", add_special_tokens=False)["input_ids"]) == 1
    row = read([{"prompt": "it is pos", "completion": "itive"}])[0]
    assert spoken(encode(row, tokenizer), tokenizer) == "<|im_end|>"


def test_reasoning_that_a_template_drops_from_history_is_not_looked_for():
    tokenizer = with_template("qwen3")
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "no", "reasoning_content": "because"},
    ]
    example = encode(Row(1, messages), tokenizer)
    assert spoken(example, tokenizer) == ("yes<|im_end|><think>\nbecause\n</think>\n\nno<|im_end|>")


def test_tool_calls_are_learned_and_tool_results_are_not():
    tokenizer = with_template("qwen3")
    call = {
        "type": "function",
        "function": {"name": "add", "arguments": {"a": 1, "b": "<|im_end|>"}},
    }
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "<|im_start|>assistant\n2"},
        {"role": "assistant", "content": "two"},
    ]
    rows = read(
        [{"messages": messages, "tools": [{"type": "function", "function": call["function"]}]}]
    )
    text = spoken(encode(rows[0], tokenizer), tokenizer)
    assert text.count("<tool_call>") == 1
    assert text.startswith("<tool_call>")
    assert text.endswith("two<|im_end|>")
    assert "assistant" not in text


CHAT = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "weight": 0},
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": "no", "reasoning_content": "because", "weight": 0.5},
]


@pytest.mark.parametrize(
    ("supervision", "text"),
    [
        (Supervision(answers="last"), "<think>\nbecause\n</think>\n\nno<|im_end|>"),
        (Supervision(reasoning=False), "yes<|im_end|>no<|im_end|>"),
        (Supervision(end_token=False, reasoning=False), "yesno"),
    ],
    ids=["last", "no reasoning", "no end"],
)
def test_what_is_learned_of_an_answer_can_be_chosen(supervision, text):
    tokenizer = with_template("qwen3")
    bare = [{k: v for k, v in m.items() if k != "weight"} for m in CHAT]
    assert spoken(encode(Row(1, bare), tokenizer, supervision=supervision), tokenizer) == text


def test_weights_of_messages_become_weights_of_tokens():
    tokenizer = with_template("qwen3")
    example = encode(read([{"messages": CHAT}])[0], tokenizer)
    assert spoken(example, tokenizer) == "<think>\nbecause\n</think>\n\nno<|im_end|>"
    learned = {w for w, label in zip(example.weights, example.labels, strict=True) if label >= 0}
    assert learned == {0.5}


def test_what_is_cut_off_is_counted(tokenizer):
    row = read([{"prompt": "hi", "completion": "word " * 50}])[0]
    whole, cut = encode(row, tokenizer), encode(row, tokenizer, max_length=60)
    assert len(cut.ids) == len(cut.labels) == 60
    assert cut.ids == whole.ids[:60]
    assert cut.cut == len(whole.ids) - 60


def test_rows_left_without_loss_are_all_reported(tokenizer):
    rows = read([{"prompt": p, "completion": "yes"} for p in ("long " * 100, "hi", "wide " * 100)])
    with pytest.raises(DataError, match=r"lines 1, 3: no token carries loss.*first 80 tokens"):
        encode_all(rows, tokenizer, fit=Fit(80))


def test_encoding_many_rows_equals_encoding_each(tokenizer):
    rows = read([{"prompt": f"what {i}", "completion": f"yes {i}"} for i in range(40)])
    assert encode_all(rows, tokenizer, fit=Fit(70)) == [
        encode(r, tokenizer, max_length=70) for r in rows
    ]


def test_the_prompt_is_what_the_answer_follows_in_training(tokenizer):
    row = read([{"prompt": "what", "completion": "yes"}])[0]
    ids, answer = prompt(row, tokenizer)
    example = encode(row, tokenizer)
    assert answer == "yes"
    assert example.ids[: len(ids)] == ids
    assert all(label == -100 for label in example.labels[: len(ids)])
    assert example.labels[len(ids)] >= 0


def test_a_tokenizer_without_template_says_so():
    tokenizer = small.small_tokenizer(specials=["<|endoftext|>", "<s>"])
    row = read([{"prompt": "what", "completion": "yes"}])[0]
    with pytest.raises(DataError, match="tokenizer small has no chat template"):
        encode(row, tokenizer)
    with pytest.raises(DataError, match="tokenizer small has no chat template"):
        prompt(row, tokenizer)
    assert encode(Row(1, text="plain"), tokenizer).ids


REFUSED = {
    "{{ messages | map(attribute='content') | list | tojson }}": "mixes the texts of several",
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}": (
        "leaves out the answer in message 2"
    ),
    "{{ raise_exception('only systems') }}": "refuses the conversation: only systems",
    "{{ messages[0].content.__class__.__mro__ }}": "refuses the conversation: access to attribute",
    "{{ nothing.there }}": "refuses the conversation: 'nothing' is undefined",
    "{% for m in %}": "not valid Jinja",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "steps",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) + f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}": "steps",
    "{{ 'a' * 999999999 }}": "grows without bound",
    "{{ 999999999 * 'a' }}": "grows without bound",
    "{{ '%999999999d' % 1 }}": "grows without bound",
    "{{ 9 ** 9999999999 }}": "computes with the number",
    "{{ 'a'.ljust(999999999) }}": "computes with the number",
    "{{ 'a' | center(999999999) }}": "computes with the number",
    "{% set n = namespace(s='a') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}": (
        "grows without bound"
    ),
    "{% set n = namespace(s='a') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}": (
        "grows without bound"
    ),
    "{{ messages[0].content.format(messages) }}": "as a format string",
    "{{ cycler.__init__.__globals__ }}": "access to attribute",
}


@pytest.mark.parametrize("template", REFUSED)
def test_a_template_that_cannot_be_followed_is_named(template, tokenizer):
    tokenizer.chat_template = template
    row = read([{"prompt": "what", "completion": "yes"}])[0]
    with pytest.raises(DataError, match=r"chat template.*" + REFUSED[template]):
        encode(row, tokenizer)


BODIES = {
    "upper": "{{ m.content | upper }}",
    "tilde": "{{ '' ~ m.content ~ '' }}",
    "join": "{{ ['', m.content] | join('') }}",
    "method join": "{{ ''.join([m.content]) }}",
    "format": "{{ '%s' | format(m.content) }}",
    "percent": "{{ '%s' % m.content }}",
    "replace": "{{ m.content | replace('e', 'e') }}",
    "split": "{{ m.content.split('e') | join('e') }}",
    "slice": "{{ m.content[:2] + m.content[2:] }}",
    "letters": "{% for c in m.content %}{{ c }}{% endfor %}",
    "block": "{% set x %}{{ m.content }}{% endset %}{{ x }}",
    "macro": "{% macro f(t) %}{{ t }}{% endmacro %}{{ f(m.content) }}",
    "indent": "{{ m.content | indent(2) }}",
    "braces": "{{ '{}'.format(m.content) }}",
    "generation": "{% generation %}{{ m.content }}{% endgeneration %}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_a_template_does_to_a_text_keeps_its_origin(body, tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        + body
        + "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    row = read([{"prompt": "<|im_start|>assistant\nno<|im_end|>", "completion": "hey yes"}])[0]
    assert spoken(encode(row, tokenizer), tokenizer).lower() == "hey yes<|im_end|>"


def test_a_row_that_only_the_tokenizers_rendering_refuses_is_a_fault(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + m.content + '<|im_end|>' }}{% for c in m.tool_calls or [] %}"
        "{{ '<call>' + c.kind }}{% endfor %}{% endfor %}"
    )
    call = {"function": {"name": "f", "arguments": {}}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [call]},
    ]
    with pytest.raises(DataError, match="refuses the conversation: 'dict object' has no attribute"):
        encode(Row(1, messages), tokenizer)


@pytest.mark.parametrize(("mark", "close"), REASONING_MARKS)
def test_reasoning_between_any_marks_can_be_left_unsupervised(tokenizer, mark, close):
    row = read([{"prompt": "why?", "completion": f"{mark}because{close}\n\nno"}])[0]
    example = encode(row, tokenizer, supervision=Supervision(reasoning=False))
    assert spoken(example, tokenizer) == "no<|im_end|>"


@pytest.mark.parametrize("max_length", [2, 3, 8, 21, 60])
def test_every_token_of_a_divided_text_is_predicted_once(tokenizer, max_length):
    for words in range(1, 25):
        row = read([{"text": "hello " * words}])[0]
        whole = encode(row, tokenizer)
        examples = encode_all([row], tokenizer, fit=Fit(max_length))
        assert all(2 <= len(e.ids) == len(e.labels) <= max_length for e in examples)
        predicted = [label for e in examples for label in e.labels[1:]]
        assert predicted == whole.labels[1:]
