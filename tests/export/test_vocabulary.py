"""Tokenizers that llama.cpp cannot read are refused in a sentence before a file is written."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from strop.core.errors import UnsupportedError
from strop.exporting.gguf.vocabulary import vocabulary
from strop.models.assets import load_assets
from tests.tiny.saved import SPECIALS, save_kind


@pytest.mark.parametrize("kind", ["bytes alone", "words"])
def test_a_tokenizer_without_merges_is_refused_for_gguf(kind, tmp_path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: i for i, token in enumerate((*SPECIALS, *alphabet))}
    if kind == "words":
        inner = Tokenizer(models.WordLevel(tokens, unk_token="<|unk|>"))
    else:
        inner = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    folder = save_kind("LlamaConfig", tmp_path / "model")
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")
    fast.save_pretrained(folder)
    refusal = "has no merges, .* --to merged" if kind == "bytes alone" else "of the kind WordLevel"
    with pytest.raises(UnsupportedError, match=refusal):
        vocabulary(load_assets(folder), len(fast))
