"""Limits of renderings: time, bytes and depth, whoever renders."""

import sys
from datetime import date
from pathlib import Path

import pytest

from strop.core.errors import DataError
from strop.data import encode, family_template, read
from strop.data.encoding.chat import chat_ids, chat_text
from strop.data.encoding.templates import CHAT_TEMPLATES, render_on
from strop.models.sampling.text import prompt_ids
from strop.planning.machine import peak_resident

CHAT = [
    {"role": "user", "content": "what"},
    {"role": "assistant", "content": "yes", "reasoning_content": "hm"},
]
_LOOP = "{% for i in range(99999) %}"
_WIDE = "{% set b = 'a' | center(999999) %}"


def growing(first, step, end=""):
    """Return a template that makes the same step again and again."""
    return f"{{% set n = namespace(x={first}) %}}{_LOOP}{{% set n.x = {step} %}}{{% endfor %}}{end}"


REFUSED = {
    "a list that doubles": growing("['a' * 1000]", "n.x + n.x"),
    "a list of two of itself": growing("['a']", "[n.x, n.x]", "{{ n.x | tojson }}"),
    "an object of two of itself": growing("{'a': 1}", "{'a': n.x, 'b': n.x}", "{{ n.x }}"),
    "a list in a list in a list": growing("['a']", "[n.x]", "{{ n.x }}"),
    "lists that are equal": growing("['a']", "[n.x, n.x] if n.x == n.x else 1"),
    "slices of lists": growing("[1]", "[n.x[:], range(9999) | list]"),
    "texts in a list": growing("[]", "n.x + ['a' | center(999999)]"),
    "texts in a list of lists": growing("[]", "[n.x, 'a' | center(999999)]"),
    "a number squared": growing("7", "n.x * n.x"),
    "what is written": _WIDE + _LOOP + "{{ b }}{% endfor %}",
    "a block": _WIDE + "{% set x %}" + _LOOP + "{{ b }}{% endfor %}{% endset %}",
    "replace": _WIDE + "{{ b | replace(' ', b) }}",
    "the method replace": _WIDE + "{{ b.replace(' ', b) }}",
    "a long separator": _WIDE + "{{ range(99999) | list | join(b) }}",
    "a format": _WIDE + "{{ '" + "{0}" * 99 + "'.format(b) }}",
    "a wide format": "{{ '{:>999999999}'.format(1) }}",
    "an indent": "{{ ('a\n' * 400000) | indent(100000) }}",
    "tabs": "{{ ('\t' * 900000).expandtabs(100000) }}",
    "words": "{% set b = 'a ' * 500000 %}" + _LOOP + "{% set x = b.split() %}{% endfor %}",
    "characters": "{{ ('a ' * 500000) | list | length }}",
    "characters of a loop": "{% for c in 'a' * 999999 %}{{ loop.length }}{% endfor %}",
    "a sum of lists": "{{ [range(999) | list] * 9999 | sum(start=[]) }}",
    "loops": _LOOP + _LOOP + "{% endfor %}{% endfor %}",
    "a macro of itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}",
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
}


@pytest.mark.parametrize("template", REFUSED.values(), ids=REFUSED)
def test_what_grows_without_bound_is_refused_whoever_renders(template, tokenizer):
    tokenizer.chat_template = template
    if sys.platform == "linux":  # else what tests before this one took hides what it takes
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_resident()
    row = read([{"messages": CHAT}])[0]
    for render in (
        lambda: encode(row, tokenizer),
        lambda: chat_text(tokenizer, CHAT),
        lambda: prompt_ids(tokenizer, CHAT),
    ):
        with pytest.raises(DataError, match="chat template"):
            render()
    assert peak_resident() - before < 512 * 2**20  # the limit of one rendering's texts is 1 GiB


@pytest.mark.parametrize("family", CHAT_TEMPLATES)
@pytest.mark.parametrize("answer", [False, True])
def test_a_chat_is_rendered_as_transformers_renders_it(family, answer, tokenizer):
    tokenizer.chat_template = family_template(family)
    chat = CHAT[:1] if answer else CHAT
    theirs = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer)
    assert chat_text(tokenizer, chat, answer=answer) == theirs
    if answer:
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        assert chat_ids(tokenizer, chat) == ids["input_ids"]


def test_a_long_chat_is_far_from_the_limits(tokenizer):
    chat = [m for i in range(400) for m in ({"role": "user", "content": f"{i} " * 500}, CHAT[1])]
    assert len(encode(read([{"messages": chat}])[0], tokenizer).ids) > 100_000


def test_a_template_writes_the_day_it_is_given(tokenizer):
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y %H') }}: {{ messages[-1].content }}"
    render_on(tokenizer, date(2024, 7, 26))
    row = read([{"messages": CHAT}])[0]
    assert chat_text(tokenizer, CHAT) == "26 Jul 2024 00: yes"
    assert tokenizer.decode(encode(row, tokenizer).ids).startswith("26 Jul 2024 00: yes")
    render_on(tokenizer, None)
    assert chat_text(tokenizer, CHAT).startswith(date.today().strftime("%d %b %Y 00"))
