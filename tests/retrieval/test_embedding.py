"""Embedding models: folders of each kind, and an index that is searched by meaning."""

import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from strop.core.errors import ConfigError
from strop.models.embedding import open_embedder
from strop.retrieval.building import Indexing, build_index
from strop.retrieval.index import Index

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "leave", "pay", "train", "hotel", "euro", "days"),
    *("month", "night", "of", "a", "the", "is"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a sentence-transformers folder with a small random BERT."""
    path = tmp_path_factory.mktemp("embedder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS), num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(path)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(path)
    modules(path, "Transformer", "Pooling", "Normalize")
    return path


def modules(path, *kinds, pooling="mean_tokens"):
    entries = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (path / "modules.json").write_text(json.dumps(entries))
    (path / "1_Pooling").mkdir(exist_ok=True)
    config = {"pooling_mode_mean_tokens": False, f"pooling_mode_{pooling}": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(config))


def test_a_text_has_the_mean_of_its_token_states_whatever_is_beside_it(folder):
    embedder = open_embedder(str(folder))
    texts = ["the hotel", "30 days of leave a month", "train"]
    together = embedder.encode(texts)
    model = BertModel.from_pretrained(folder).eval()
    ids = torch.tensor([[2, WORDS.index("the"), WORDS.index("hotel"), 3]])
    with torch.no_grad():
        mean = model(ids).last_hidden_state[0].mean(0)
    assert np.allclose(together[0], mean / mean.norm(), atol=1e-6)
    alone = np.concatenate([embedder.encode([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-6)


def test_static_vectors_are_unit_vectors_that_ignore_order(folder):
    embedder = open_embedder(f"static:{folder}")
    one, other, empty = embedder.encode(["hotel night", "night hotel", ""])
    assert np.allclose(one, other, atol=1e-6)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)
    assert not empty.any()


def test_modules_that_are_not_served_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="no embedding model is named"):
        open_embedder("no-such-model")
    modules(tmp_path, "Transformer", "Pooling", "Dense")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="Dense"):
        open_embedder(str(tmp_path))


def test_texts_that_an_index_has_are_not_embedded_again(folder, tmp_path):
    docs, out = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    (docs / "leave.txt").write_text("30 days of leave")
    (docs / "hotel.txt").write_text("the hotel is 9 euro a night")
    how = Indexing(embedder=str(folder))
    assert build_index(docs, out, how)["embedded"] == 2
    before = np.load(out / "vectors.npy")
    (docs / "a.txt").write_text("pay")
    (docs / "leave.txt").rename(docs / "renamed.txt")
    assert build_index(docs, out, how)["embedded"] == 1
    after = np.load(out / "vectors.npy")
    assert np.array_equal(after[1:], before)
    hits = Index(out).search("the hotel is 9 euro a night")
    assert hits[0].source == "hotel.txt"
    assert hits[0].dense == pytest.approx(1, abs=1e-5)


def test_an_index_whose_embedding_model_is_gone_is_searched_by_words(folder, tmp_path):
    docs, out, copy = tmp_path / "docs", tmp_path / "index", tmp_path / "copy"
    docs.mkdir()
    (docs / "leave.txt").write_text("30 days of leave")
    shutil.copytree(folder, copy)
    build_index(docs, out, Indexing(embedder=str(copy)))
    shutil.rmtree(copy)
    index = Index(out)
    assert [hit.source for hit in index.search("leave")] == ["leave.txt"]
    assert "only words are searched" in index.notes[0]
