"""A tokenizer with several chat templates is exported with all of them."""

import pytest
from transformers import GenerationConfig, LlamaConfig

from strop.exporting.gguf.vocabulary import vocabulary
from strop.exporting.ollama.modelfile import Modelfile
from strop.models.assets import ModelAssets
from tests.tiny.saved import TEMPLATE, tokenizer


def assets_with(templates):
    built = tokenizer()
    built.chat_template = templates
    settings = GenerationConfig(eos_token_id=[built.eos_token_id])
    return ModelAssets(None, LlamaConfig(vocab_size=len(built)), settings, built)


NAMED = {"default": TEMPLATE, "tool_use": TEMPLATE + "{{ tools }}", "rag": TEMPLATE + "{{ rag }}"}


@pytest.mark.parametrize(
    "names", [["default"], ["default", "tool_use"], ["default", "rag", "tool_use"], ["tool_use"]]
)
def test_a_gguf_file_has_each_template_under_its_name(names):
    assets = assets_with({name: NAMED[name] for name in names})
    fields = vocabulary(assets, assets.config.vocab_size)
    templates = {k.removeprefix("tokenizer."): v for k, v in fields.items() if "chat_template" in k}
    others = sorted(set(names) - {"default"})
    expected = {f"chat_template.{name}": NAMED[name] for name in others}
    if "default" in names:
        expected["chat_template"] = TEMPLATE
    if others:
        expected["chat_templates"] = others
    assert templates == expected


def test_a_modelfile_is_that_of_the_default_template():
    several, one = (
        Modelfile.of(assets_with(templates), "a.gguf") for templates in (NAMED, TEMPLATE)
    )
    assert (several.template, several.stops) == (one.template, one.stops)
