"""A Modelfile says in words that the tools of the chat template are not in it."""

import pytest

from strop.exporting.ollama.chat_segments import writes_tools
from tests.tiny.saved import TEMPLATE, tokenizer

TOOLS = "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"


@pytest.mark.parametrize(
    ("template", "writes"),
    [
        (TEMPLATE, False),
        (TOOLS + TEMPLATE, True),
        ("{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + TEMPLATE, False),
        ("{% if tools %}Tools may be called.{% endif %}" + TEMPLATE, False),
    ],
    ids=["none", "written", "refused", "passed over"],
)
def test_a_template_writes_tools_or_does_not(template, writes):
    built = tokenizer()
    built.chat_template = template
    assert writes_tools(built) is writes
