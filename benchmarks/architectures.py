"""Every causal-LM architecture of transformers, built tiny: strop's numbers beside the plain ones.

Run as `python benchmarks/architectures.py`; writes `benchmarks/results/cpu/architectures.json` after
each architecture and goes on where it was stopped. Four ragged rows, two of which begin alike; loss,
gradients and evaluation. Each architecture runs in a forked child with a time limit.
"""

import argparse
import json
import logging
import multiprocessing
import time
import traceback
from pathlib import Path

import torch
import transformers
from compare import circumstances
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from trl.trainer.utils import add_fused_lm_head

from strop.core.files import write_json
from strop.core.tokens import IGNORE_INDEX
from strop.evaluation.scoring import score
from strop.forward.compact import install
from strop.forward.guard.rounding import Numbers, beyond_rounding, perturbed

RESULT = Path(__file__).parent / "results" / "cpu" / "architectures.json"
SECONDS = 90
LARGEST = 20_000_000
"""Weights; what cannot be made smaller is left out."""
V = 211
FAILURES = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError,
            RuntimeError, TypeError, ValueError)  # fmt: skip
"""What a model raises is its result."""
SIZES = {
    **dict.fromkeys(("vocab_size",), V),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "attention_hidden_size", "lru_width"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "dff", "n_inner", "ffn_hidden_size"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "block_ff_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads",), 2),
    **dict.fromkeys(("head_dim", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"), 8),
    **dict.fromkeys(("kv_lora_rank", "rotary_dim", "state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("ssm_state_size", "mamba_chunk_size", "chunk_size", "mamba_d_head"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "mamba_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "n_group", "topk_group"), 1),
    **dict.fromkeys(("mamba_d_ssm",), 64),
    **dict.fromkeys(("q_lora_rank", "time_step_rank", "mamba_dt_rank"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 128),
    **dict.fromkeys(("context_length",), 128),
    **dict.fromkeys(("sliding_window", "window_size", "attention_window_size"), 16),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Of a configuration that has them; what it does not have stays away."""
SPECIAL = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "gpt_oss": {"output_router_logits": False},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
              "expert_layer_offset": 1, "use_mamba_kernels": False},
    "stablelm": {"num_key_value_heads": 4},
    "persimmon": {"num_key_value_heads": 4},
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
    "bamba": {"attn_layer_indices": [1]},
    "xlm": {"emb_dim": 32},
    "xlnet": {"d_head": 8},
    "cpmant": {"dim_head": 8, "dim_ff": 48},
    "zamba2": {"num_mem_blocks": 1},
}  # fmt: skip


def shrunk(kind, config_class):
    """Return a tiny configuration of a model type."""
    defaults = config_class().to_dict()
    sizes = {k: v for k, v in SIZES.items() if defaults.get(k) is not None}
    if isinstance(defaults.get("text_config"), dict):
        inner = defaults["text_config"]
        sizes["text_config"] = {k: v for k, v in SIZES.items() if inner.get(k) is not None}
    sizes |= {k: 0.0 for k, v in defaults.items() if "drop" in k and isinstance(v, float)}
    sizes |= {"output_router_logits": False} if "output_router_logits" in defaults else {}
    for name in ("layer_types", "layers_block_type", "block_types", "mlp_layer_types"):
        if defaults.get(name):
            kinds = list(dict.fromkeys(defaults[name]))
            layers = max(2, len(kinds))
            sizes["num_hidden_layers"] = max(layers, sizes.get("num_hidden_layers", 2))
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        if defaults.get(name):
            kinds = list(dict.fromkeys(defaults[name]))
            n = sizes["num_hidden_layers"]
            sizes[name] = [kinds[i % len(kinds)] for i in range(n)]
    return config_class(**(sizes | SPECIAL.get(kind, {})))


def build(kind):
    """Return a tiny random model in float32, in training mode."""
    config = shrunk(kind, transformers.CONFIG_MAPPING[kind])
    for each in (config, config.get_text_config()):
        each.is_decoder = True
    with torch.device("meta"):
        weights = sum(
            p.numel() for p in transformers.AutoModelForCausalLM.from_config(config).parameters()
        )
    if weights > LARGEST:
        raise ValueError(f"its smallest form here has {weights:,} weights")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def batch(side):
    """Return four ragged rows [4, 60], two of which begin alike."""
    rng = torch.Generator().manual_seed(1)
    lengths, T = (60, 45, 30, 7), 60
    ids = torch.zeros(4, T, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE_INDEX)
    prefix = torch.randint(3, V, (20,), generator=rng)
    for b, n in enumerate(lengths):
        row = torch.randint(3, V, (n,), generator=rng)
        if b < 2:
            row[:20] = prefix
        at = slice(0, n) if side == "right" else slice(T - n, T)
        ids[b, at], mask[b, at] = row, 1
        labels[b, at.start + n // 3 : at.stop - 2] = row[n // 3 : n - 2]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def numbers(model, rows):
    """Return log-probabilities and gradients of one call as TRL makes it."""
    outputs = model(**rows, fused_lm_head=True)
    scored = outputs.log_probs[rows["labels"][:, 1:] != IGNORE_INDEX]
    trained = [p for p in model.parameters() if p.requires_grad]
    slopes = torch.randn(scored.shape, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad(scored, trained, slopes, allow_unused=True)
    return Numbers(scored.detach(), gradients)


def compared(model, side):
    """Return what strop does with rows padded on a side, and whether its numbers are the plain ones."""
    rows, varied = batch(side), []
    add_fused_lm_head(model, outputs=("log_probs",))
    try:
        truth = numbers(model, rows)
        for seed in range(2):
            with perturbed(model, 10 + seed):
                varied.append(numbers(model, rows))
    except FAILURES as e:
        return {"way": "fails plain", "why": f"{type(e).__name__}: {str(e)[:120]}"}
    if not truth.log_probs.isfinite().all():
        return {"way": "fails plain", "why": "its plain log-probabilities are no numbers"}
    compact, undo = install(model)
    try:
        ours = numbers(model, rows)
    finally:
        undo()
    way = next(iter(compact.guard.proven.values()), None)
    fault = beyond_rounding(ours, truth, varied)
    return {
        "way": "compact" if way is None else way.name,
        "why": "" if way is None else way.reason,
        "said": sorted(compact.reported),
        "fault": fault,
    }


def evaluated(model):
    """Return whether a row's score is the same beside others and alone, by the model's own logits."""
    rows = batch("right")
    model.eval()
    examples = []
    for ids, mask, labels in zip(*rows.values(), strict=True):
        n = int(mask.sum())
        examples.append((ids[:n].tolist(), labels[:n].tolist()))
    together = score(model, examples)
    with torch.no_grad():
        truth, varied = alone(model, examples), []
        for seed in range(2):
            with perturbed(model, seed):
                varied.append(Numbers(alone(model, examples), ()))
    return beyond_rounding(Numbers(torch.cat(together), ()), Numbers(truth, ()), varied)


def alone(model, examples):
    """Return the log-probabilities of each row by itself from the model's own logits."""
    picks = []
    for ids, labels in examples:
        row, targets = torch.tensor([ids]), torch.tensor(labels[1:])
        mask = torch.ones_like(row)
        logits = model(input_ids=row, attention_mask=mask, use_cache=False).logits[0, :-1]
        picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[:, None])[:, 0]
        picks.append(picked[targets != IGNORE_INDEX])
    return torch.cat(picks)


def one(kind, pipe):
    """Try one architecture and send what was found."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    try:
        model = build(kind)
    except FAILURES as e:
        pipe.send({"way": "not built", "why": f"{type(e).__name__}: {str(e)[:160]}"})
        return
    results = {"class": type(model).__name__}
    for side in ("right", "left"):
        try:
            results[side] = compared(build(kind), side)
        except FAILURES as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            results[side] = {
                "way": "traceback",
                "why": f"{type(e).__name__}: {str(e)[:160]} ({where})",
            }
    try:
        results["evaluation"] = evaluated(model) or "equal"
    except FAILURES as e:
        results["evaluation"] = f"{type(e).__name__}: {str(e)[:160]}"
    pipe.send(results)


def main():
    """Try what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="model types")
    parser.add_argument("--anew", action="store_true", help="forget what was found before")
    args = parser.parse_args()
    earlier = {} if args.anew or not RESULT.is_file() else json.loads(RESULT.read_text())
    architectures = earlier.get("architectures", {})
    context = multiprocessing.get_context("fork")
    for kind in args.only or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        if kind in architectures and not args.only:
            continue
        start = time.perf_counter()
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=one, args=(kind, there))
        child.start()
        there.close()
        try:
            result = here.recv() if here.poll(SECONDS) else {"way": "not built", "why": "too slow"}
        except EOFError:
            result = {"way": "not built", "why": "the process ended"}
        child.kill()
        child.join()
        architectures[kind] = result | {"seconds": round(time.perf_counter() - start, 1)}
        write_json(RESULT, {**circumstances(), "architectures": architectures})
        print(kind, json.dumps(result)[:300], flush=True)


if __name__ == "__main__":
    main()
