"""Models outside the family table: the guard's way for each, and numbers equal to the plain ones."""

import logging

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from strop.evaluation.scoring import score
from strop.forward.base_model import base_model
from strop.forward.compact import install
from strop.forward.compaction import compact_batch
from strop.forward.decoder import mixers
from strop.forward.decoder.backbone import attach
from strop.forward.guard import ways
from strop.forward.guard.leaks import leak
from strop.forward.guard.probe import Batch, make_probe
from strop.ops.segment_attention.segments import Segments
from tests import tiny
from tests.forward.plain import OUTPUTS, compare_with_eager, gradients_of, step

SIZES = {
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "moe_intermediate_size": 24, "first_k_dense_replace": 2, "q_lora_rank": 16, "kv_lora_rank": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_shared_experts": 1,
    "num_key_value_heads": 4,
}  # fmt: skip
DELTA = {
    "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "head_dim": 8,
}  # fmt: skip
MAMBA2 = {
    "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1,
    "mamba_d_state": 8, "mamba_chunk_size": 8, "head_dim": 8,
}  # fmt: skip
SUITED = {
    "opt": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "gpt2": ("GPT2Config", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "cohere": ("CohereConfig", {}),
    "smollm3": ("SmolLM3Config", {}),
}
HYBRID = {
    "mamba": ("MambaConfig", {"state_size": 8}),
    "lfm2-moe": (
        "Lfm2MoeConfig",
        {"layer_types": ["conv", "full_attention"], "moe_intermediate_size": 24,
         "num_experts": 4, "num_experts_per_tok": 2, "num_dense_layers": 1},
    ),
    "falcon-h1": ("FalconH1Config", MAMBA2),
    "olmo-hybrid": ("OlmoHybridConfig", DELTA | {"linear_num_key_heads": 4}),
}  # fmt: skip
UNSUITED = {
    "rwkv": ("RwkvConfig", {"attention_hidden_size": 32}),
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "gpt-neo": (
        "GPTNeoConfig",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 16},
    ),
    "stablelm": ("StableLmConfig", {"num_key_value_heads": 4}),
    "mpt": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}),
    "deepseek-v3": ("DeepseekV3Config", LATENT),
    "gpt-oss": (
        "GptOssConfig",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    ),
}  # fmt: skip
ALL = SUITED | HYBRID | UNSUITED


@pytest.fixture(autouse=True)
def nothing_is_proven_yet(monkeypatch, tmp_path):
    """Let every test prove again, in a new cache."""
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    monkeypatch.setattr(ways, "_HERE", {})


def model(name, dtype=torch.float32, **more):
    """Build a tiny random model of any architecture."""
    config, special = ALL[name]
    torch.manual_seed(0)
    built = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, config)(**(SIZES | special | more)),
        experts_implementation="eager",  # the grouped product takes no float64
    )
    for parameter in built.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return built.to(dtype)


def way_of(compact):
    (way,) = set(compact.guard.proven.values())
    return way


@pytest.mark.parametrize("name", SUITED | HYBRID)
def test_models_that_suit_rows_laid_end_to_end_are_computed_so(name):
    compact = compare_with_eager(model(name), tiny.batch(shared=20))
    assert way_of(compact).name == "compact"


@pytest.mark.parametrize("name", UNSUITED)
def test_models_that_do_not_suit_it_compute_their_rows_one_by_one(name, caplog):
    caplog.set_level(logging.WARNING, "strop")
    compact = compare_with_eager(model(name), tiny.batch(shared=20))
    assert way_of(compact).name == "rows"
    (line,) = [r.getMessage() for r in caplog.records if r.name == "strop"]
    assert line.startswith(type(base_model(compact.model)).__name__)
    assert "its rows run one by one through its own forward" in line


@pytest.mark.parametrize("activations", ["checkpoint", "offload"])
def test_rows_one_by_one_are_exact_in_every_mode_and_budget(activations):
    settings = {
        "activations": activations,
        "micro_batch_tokens": 50,
        "linear_loss": activations == "offload",
    }
    for name, way in (("rwkv", "rows"), ("falcon-h1", "compact")):
        compact = compare_with_eager(model(name), tiny.batch(shared=20), **settings)
        assert way_of(compact).name == way


@pytest.mark.parametrize("name", ["olmo-hybrid", "bloom"])
def test_an_adapter_on_such_a_model_gets_its_plain_gradients(name):
    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    built = get_peft_model(model(name), settings)
    for parameter in built.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    compare_with_eager(built, tiny.batch(shared=20))


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_positions_of_left_padded_rows_are_counted_as_the_model_counts_them(name):
    built, batch = model(name), tiny.batch(side="left")
    add_fused_lm_head(built, outputs=OUTPUTS)
    expected = built(**batch, fused_lm_head=True, use_cache=False)
    expected_gradients = gradients_of(built, expected.log_probs)
    compact, undo = install(built)
    ours, gradients = step(built, batch)
    undo()
    assert way_of(compact).over_padding == (name == "gpt2")  # OPT counts by the mask
    torch.testing.assert_close(ours.log_probs, expected.log_probs)
    torch.testing.assert_close(gradients, expected_gradients)


def test_a_model_that_counts_its_positions_itself_is_passed_on_where_rows_are_padded_left(caplog):
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=211, d_model=32, decoder_layers=2, decoder_attention_heads=4,
        decoder_ffn_dim=48, max_position_embeddings=128, dropout=0.0, is_decoder=True,
        is_encoder_decoder=False,
    )  # fmt: skip
    built, batch = transformers.BartForCausalLM(config), tiny.batch(side="left")
    add_fused_lm_head(built, outputs=OUTPUTS)
    expected = built(**batch, fused_lm_head=True).log_probs
    compact, undo = install(built)
    assert torch.equal(built(**batch, fused_lm_head=True).log_probs, expected)
    assert way_of(compact).name == "plain"
    undo()
    assert "runs as it was written" in caplog.text


def test_the_score_of_a_row_does_not_depend_on_its_neighbours():
    built, batch = model("falcon-h1").eval(), tiny.batch(shared=20)
    lengths = batch["attention_mask"].sum(1).tolist()
    examples = [
        (ids[:n].tolist(), labels[:n].tolist())
        for ids, labels, n in zip(batch["input_ids"], batch["labels"], lengths, strict=True)
    ]
    together, alone = score(built, examples), [score(built, [one])[0] for one in examples]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_a_proof_is_cached_for_the_next_process_and_leaves_no_trace(monkeypatch):
    built, batch = model("olmo-hybrid"), tiny.batch()
    add_fused_lm_head(built, outputs=OUTPUTS)
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in built.state_dict().items()}
    first, undo = install(built)
    built(**batch, fused_lm_head=True)
    undo()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in built.parameters())
    assert all(torch.equal(v, before[k]) for k, v in built.state_dict().items())
    monkeypatch.setattr(ways, "_HERE", {})
    second, undo = install(built)
    monkeypatch.setattr(type(second.guard), "_prove", lambda *_: pytest.fail("proven twice"))
    built(**batch, fused_lm_head=True)
    undo()
    assert way_of(second) == way_of(first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [*HYBRID, *tiny.HYBRID])
def test_a_state_carried_from_row_to_row_is_a_derivative_that_is_not_zero(name, dtype, monkeypatch):
    known = name in tiny.HYBRID
    built = tiny.model(name, dtype=dtype, attention="eager") if known else model(name, dtype)
    built = base_model(built)
    batch = tiny.batch(shared=20)
    micro_batch, width = compact_batch(**batch)[0], batch["labels"].shape[1] - 1
    backbone = attach(built, activations="auto", fuse="auto")
    assert leak(backbone, micro_batch, width) is None
    apart = mixers._segment_by_segment

    def joined(forward, segments, /, *args, **settings):
        return apart(forward, Segments((segments.size,), (None,)), *args, **settings)

    monkeypatch.setattr(mixers, "_segment_by_segment", joined)
    assert "a row depends on tokens of another" in leak(backbone, micro_batch, width)


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "file"))
    built = model("opt")
    add_fused_lm_head(built, outputs=OUTPUTS)
    compact, undo = install(built)
    built(**tiny.batch(), fused_lm_head=True)
    undo()
    assert way_of(compact).name == "compact"


def test_a_batch_of_one_short_row_still_shows_whether_rows_reach_into_one_another():
    ids = torch.tensor([[5, 6, 7]])
    probe = make_probe(Batch(ids, ids.clone()), context=None)
    lengths = probe.mask.sum(1).tolist()
    assert lengths[0] >= 40
    assert len(set(lengths)) == 3
    assert torch.equal(probe.input_ids[0, :20], probe.input_ids[1, :20])
    compact = compare_with_eager(
        model("rwkv"), {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    )
    assert way_of(compact).name == "rows"


def test_rows_beyond_the_context_train_where_positions_are_rotary_and_are_named_where_they_are_not():
    long = tiny.batch(lengths=(150, 20))
    compare_with_eager(model("smollm3"), long)
    built = model("gpt2")
    add_fused_lm_head(built, outputs=OUTPUTS)
    _, undo = install(built)
    with pytest.raises(ValueError, match=r"row 0 of the batch has 150 tokens; .* context is 128"):
        built(**long, fused_lm_head=True)
    undo()
