"""Batches of prompts: greedy answers, log-probabilities, draws, ends, and what is refused."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from strop.core.errors import ConfigError
from strop.evaluation.scoring import score
from strop.models.sampling import Sampling, sample
from tests import tiny
from tests.models.test_sampling import TOKENIZER

FAMILIES = [*tiny.FAMILIES, *tiny.UNKNOWN]


def small(family="llama", positions=512, **peft):
    sizes = {"vocab_size": 258, "eos_token_id": 1, "max_position_embeddings": positions}
    model = tiny.model(family, dtype=torch.float32, attention="eager", sizes=sizes, **peft)
    return model.eval()


def prompts_of(*lengths, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 258, (n,), generator=rng).tolist() for n in lengths]


def generated(model, prompt, count, **settings):
    """Return what transformers generates: ids, and the log-probabilities of each step [count, V]."""
    out = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=count,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **settings,
    )
    return out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits).log_softmax(-1)


def assert_is_greedy(model, prompts, answers, count, **settings):
    for prompt, answer in zip(prompts, answers, strict=True):
        ids, log_probs = generated(model, prompt, count, **settings)
        chosen = log_probs[range(len(ids)), ids]
        assert answer.ids == ids
        torch.testing.assert_close(torch.tensor(answer.log_probs), chosen, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_and_their_log_probabilities_are_those_of_generate(family):
    model = small(family)
    shared = prompts_of(40)[0]
    prompts = [*prompts_of(3, 50, 17), shared, [*shared, 7, 9], shared, [5, 6] * 40]
    answers = sample(model, TOKENIZER, prompts, Sampling(max_new_tokens=12))
    assert_is_greedy(model, prompts, answers, 12)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3.5"])
def test_rows_that_finish_leave_and_others_come_in(family, monkeypatch):
    monkeypatch.setattr("strop.models.sampling.batching.ROWS_AT_ONCE", 4)
    model = small(family)
    prompts = [*prompts_of(*range(3, 14)), *prompts_of(30) * 3]
    settings = [Sampling(max_new_tokens=1 + 5 * i % 7) for i in range(len(prompts))]
    answers = sample(model, TOKENIZER, prompts, settings)
    for prompt, wish, answer in zip(prompts, settings, answers, strict=True):
        assert_is_greedy(model, [prompt], [answer], wish.max_new_tokens)


def test_a_repetition_penalty_and_a_least_length_are_those_of_generate():
    model = small()
    (prompt,) = prompts_of(20)
    settings = {"repetition_penalty": 1.7, "min_new_tokens": 6}
    (answer,) = sample(model, TOKENIZER, [prompt], Sampling(max_new_tokens=10, **settings))
    assert answer.ids == generated(model, prompt, 10, **settings)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 7},
        {"top_p": 0.7},
        {"min_p": 0.3},
        {"temperature": 2.0, "top_k": 30, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_they_are_likely(settings):
    draws, (prompt,) = 20_000, prompts_of(6)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=258, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=2, initializer_range=0.3, eos_token_id=1)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        scores = model(torch.tensor([prompt])).logits[:, -1] * 3
        model.lm_head.weight *= 3
    kinds = {
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
    }
    warpers = [kind(settings[name]) for name, kind in kinds.items() if name in settings]
    warped = LogitsProcessorList(warpers)(torch.tensor([prompt]), scores)
    probabilities = warped.softmax(-1)[0].double()
    settings = Sampling(max_new_tokens=1, **({"temperature": 1.0} | settings))
    answers = sample(model, TOKENIZER, [prompt] * draws, settings)
    counts = torch.tensor([a.ids[0] for a in answers]).bincount(minlength=258)
    assert not counts[probabilities == 0].any()
    often = probabilities * draws >= 5
    counts = [*counts[often].tolist(), int(counts[~often].sum())]
    expected = [
        *(probabilities[often] * draws).tolist(),
        float(probabilities[~often].sum() * draws),
    ]
    if expected[-1] == 0:
        counts, expected = counts[:-1], expected[:-1]
    distance = sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True))
    freedom = torch.tensor((len(counts) - 1) / 2)
    assert torch.special.gammaincc(freedom, torch.tensor(distance / 2)) > 1e-4


def test_a_seed_gives_the_same_answer_whatever_else_is_in_the_batch():
    model, prompts = small(), prompts_of(9, 30, 30, 21)
    settings = Sampling(max_new_tokens=20, temperature=1.0)
    together = sample(model, TOKENIZER, prompts * 4, settings, seed=range(16))
    for i in (0, 6, 9, 15):
        (alone,) = sample(model, TOKENIZER, [prompts[i % 4]], settings, seed=i)
        assert alone.ids == together[i].ids
    assert len({tuple(a.ids) for a in together}) == 16


def test_an_answer_ends_before_its_stop_text_and_says_what_ended_it():
    model, prompt = small(), "hello"
    (whole,) = sample(model, TOKENIZER, [prompt], Sampling(max_new_tokens=30))
    middle = TOKENIZER.decode(whole.ids[10:12])
    wishes = [
        Sampling(max_new_tokens=30, stop=("never to come", middle)),
        Sampling(max_new_tokens=30, stop=("never to come",)),
        Sampling(max_new_tokens=30, stop_ids=(whole.ids[7],)),
    ]
    text, never, by_id = sample(model, TOKENIZER, [prompt] * 3, wishes)
    assert text.text == whole.text[: whole.text.index(middle)]
    assert text.finish_reason == by_id.finish_reason == "stop"
    assert (never.text, never.ids) == (whole.text, whole.ids)
    assert whole.finish_reason == "length"
    assert by_id.ids == whole.ids[: whole.ids.index(whole.ids[7]) + 1]


def test_all_faults_are_named_at_once():
    model, long = small(), [5] * 512
    with pytest.raises(ConfigError) as error:
        sample(model, TOKENIZER, [long, [5, 258], "ok"], Sampling(stop_ids=(-1,)))
    for part in ("prompt 0 has 512 tokens", "prompt 1 has the token id 258", "stop_ids has -1"):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match=r"top_p is 0; .*; min_p is 2;"):
        sample(model, TOKENIZER, ["ok"], Sampling(top_p=0, min_p=2))
    with pytest.raises(ConfigError, match="1 settings for 2 prompts"):
        sample(model, TOKENIZER, ["ok", "ok"], [Sampling()])
    with pytest.raises(ConfigError, match="1 seeds for 2 prompts"):
        sample(model, TOKENIZER, ["ok", "ok"], seed=[3])


def test_no_prompts_have_no_answers():
    assert sample(small(), TOKENIZER, []) == []


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_modes_switches_weights_and_gradients_are_left_as_they_were(dropout):
    model = small(lora_dropout=dropout).train()
    model.base_model.model.model.layers[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    forwards = [vars(module).get("forward") for module in model.modules()]
    trained = [p.requires_grad for p in model.parameters()]
    answers = sample(model, TOKENIZER, ["one", "another"], Sampling(max_new_tokens=5))
    assert [module.training for module in model.modules()] == modes
    assert [vars(module).get("forward") for module in model.modules()] == forwards
    assert [p.requires_grad for p in model.parameters()] == trained
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert answers == sample(
        model.eval(), TOKENIZER, ["one", "another"], Sampling(max_new_tokens=5)
    )


def test_an_adapter_counts_unless_it_is_switched_off():
    model, prompts, settings = small(), ["one", "another"], Sampling(max_new_tokens=8)
    tuned = sample(model, TOKENIZER, prompts, settings)
    with model.disable_adapter():
        off = sample(model, TOKENIZER, prompts, settings)
    base = sample(small(lora=False), TOKENIZER, prompts, settings)
    assert [a.ids for a in off] == [a.ids for a in base] != [a.ids for a in tuned]


def test_progress_counts_finished_answers():
    calls = []
    sample(
        small(), TOKENIZER, ["one", "two"], Sampling(max_new_tokens=2),
        progress=lambda *call: calls.append(call),
    )  # fmt: skip
    assert calls == [("sampling", n, 2) for n in range(3)]


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3"])
def test_the_policy_that_samples_is_the_policy_that_is_trained(family):
    model, prompts = small(family), prompts_of(30) * 4 + prompts_of(12, 50)
    settings = Sampling(max_new_tokens=12, temperature=1.0)
    answers = sample(model, TOKENIZER, prompts, settings)
    examples = [
        ([*prompt, *answer.ids], [-100] * len(prompt) + answer.ids)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    for trained, answer in zip(score(model, examples), answers, strict=True):
        ratios = (trained - torch.tensor(answer.log_probs)).exp()
        torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"top_k": 7}, {"top_p": 0.7}, {"min_p": 0.3}, {"temperature": 2.0, "top_k": 30, "top_p": 0.9}],
    ids=str,
)
def test_what_is_drawn_in_one_call_is_what_is_drawn_step_by_step(settings, monkeypatch):
    model, prompts = small(), prompts_of(20, 9) * 3
    settings = Sampling(max_new_tokens=12, **({"temperature": 1.0} | settings))
    at_once = sample(model, TOKENIZER, prompts, settings)
    monkeypatch.setattr("strop.models.sampling.choice.draw.function", lambda: None)
    by_steps = sample(model, TOKENIZER, prompts, settings)
    assert [a.ids for a in at_once] == [a.ids for a in by_steps]
    for one, other in zip(at_once, by_steps, strict=True):
        torch.testing.assert_close(one.log_probs, other.log_probs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 11])
def test_a_model_in_bfloat16_answers_as_near_to_float64_as_transformers_does(rows):
    model = small(lora=False).to(torch.bfloat16)
    prompts = prompts_of(*range(9, 9 + rows))
    answers = sample(model, TOKENIZER, prompts, Sampling(max_new_tokens=6, min_new_tokens=6))
    exact = copy.deepcopy(model).double()
    ours, theirs = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        whole = torch.tensor([prompt + answer.ids[:-1]])
        with torch.no_grad():
            truth, eager = (
                m(whole).logits[0, len(prompt) - 1 :].double().log_softmax(-1)[range(6), answer.ids]
                for m in (exact, model)
            )
        ours += (torch.tensor(answer.log_probs).double() - truth).tolist()
        theirs += (eager - truth).tolist()
    assert torch.tensor(ours).norm() <= torch.tensor(theirs).norm()
