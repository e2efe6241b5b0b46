import math

import pytest
import torch

import strop
from strop.core.errors import ConfigError, DataError
from strop.data import encode, read
from strop.evaluation import Estimate, Evaluation, compare, evaluate
from strop.evaluation.labels import label_set
from strop.evaluation.plan import Metrics
from strop.training import train
from tests.tiny.saved import save_chats, sums

TONES = ("positive", "negative", "so so")
LABELLED = [
    {"prompt": f"tone of text {i}: {'x' * (i % 7)}", "completion": TONES[i % 3]} for i in range(24)
]
FREE = [
    {"prompt": f"count to {i}", "completion": " ".join(map(str, range(i)))} for i in range(1, 9)
]

THINKING = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{% if m.reasoning_content %}<think>"
    "{{ m.reasoning_content }}</think>{% endif %}{{ m['content'] }}<|end|>\n{% endfor %}"
)


def log_probs(model, tokenizer, row):
    """Return the log-probabilities of a row's supervised tokens, by the plain forward."""
    example = encode(row, tokenizer)
    with torch.no_grad():
        logits = model(torch.tensor([example.ids])).logits[0, :-1].double().log_softmax(-1)
    labels = torch.tensor(example.labels[1:])
    return logits[torch.arange(len(labels)), labels.clamp(min=0)][labels >= 0]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return strop.load(str(tiny_model), dtype=torch.float32)  # whatever is faster here


def test_loss_and_perplexity_are_those_of_the_plain_forward(loaded):
    evaluation = evaluate(loaded, FREE)
    scored = torch.cat([log_probs(*loaded, row) for row in read(FREE)])
    assert evaluation.tokens == scored.numel()
    assert evaluation.loss.value == pytest.approx(-scored.mean().item(), rel=1e-5)
    assert evaluation.perplexity.value == pytest.approx(math.exp(evaluation.loss.value))
    assert evaluation.loss.low < evaluation.loss.value < evaluation.loss.high
    assert evaluation.accuracy is None
    assert evaluation.confusion is None


def test_the_choice_is_the_label_with_the_highest_total_log_probability(loaded):
    evaluation = evaluate(loaded, LABELLED)
    hits, table = 0, {right: dict.fromkeys(sorted(TONES), 0) for right in sorted(TONES)}
    for row in LABELLED:
        totals = {
            tone: log_probs(*loaded, read([{**row, "completion": tone}])[0]).sum() for tone in TONES
        }
        choice = max(totals, key=totals.__getitem__)
        table[row["completion"]][choice] += 1
        hits += choice == row["completion"]
    assert evaluation.confusion == table
    assert evaluation.accuracy is not None
    assert evaluation.accuracy.value == hits / 24
    assert evaluation.accuracy.low < evaluation.accuracy.value < evaluation.accuracy.high


def test_the_loss_of_labelled_rows_is_that_of_their_right_answers(loaded):
    scored = torch.cat([log_probs(*loaded, row) for row in read(LABELLED)])
    assert evaluate(loaded, LABELLED).loss.value == pytest.approx(-scored.mean().item(), rel=1e-5)


def reasoned(row):
    """Return a labelled row whose answer has reasoning that tells the label."""
    thought = f"it is {row['completion']}"
    return {"prompt": row["prompt"], "reasoning": thought, "completion": row["completion"]}


@pytest.mark.parametrize("field", ["reasoning", "thinking", "rationale"])
def test_labels_are_scored_without_the_reasoning_that_tells_them(loaded, field):
    _, tokenizer = loaded
    tokenizer.chat_template, before = THINKING, tokenizer.chat_template
    try:
        rows = [
            {field if k == "reasoning" else k: v for k, v in reasoned(r).items()} for r in LABELLED
        ]
        evaluation, plain = evaluate(loaded, rows), evaluate(loaded, LABELLED)
        scored = torch.cat([log_probs(*loaded, row) for row in read(rows)])
    finally:
        tokenizer.chat_template = before
    assert evaluation.confusion == plain.confusion
    assert evaluation.loss.value == pytest.approx(-scored.mean().item(), rel=1e-5)
    assert evaluation.tokens == scored.numel() > plain.tokens
    assert "without the reasoning" in evaluation.note
    assert plain.note is None


def test_a_model_that_is_being_trained_is_left_as_it_was(loaded):
    model, _ = loaded
    before = [p.requires_grad for p in model.parameters()]
    model.train()
    evaluate(loaded, FREE)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == before
    model.eval()


def test_limit_draws_the_same_rows_for_the_same_seed(loaded):
    first = evaluate(loaded, LABELLED, limit=9, seed=1)
    again = evaluate(loaded, LABELLED, limit=9, seed=1)
    other = evaluate(loaded, LABELLED, limit=9, seed=2)
    assert first.rows == 9
    assert (first.loss, first.confusion) == (again.loss, again.confusion)
    assert first.loss != other.loss


def test_a_limit_below_one_is_refused(loaded):
    with pytest.raises(ConfigError, match="limit is 0; it must be at least 1"):
        evaluate(loaded, LABELLED, limit=0)


def test_rows_without_an_answer_are_named(loaded):
    rows = [{"messages": [{"role": "user", "content": "hello"}]}] * 2
    with pytest.raises(DataError, match="lines 1-2"):
        evaluate(loaded, rows)


def test_a_row_far_beyond_the_models_context_is_named_and_the_others_measured(loaded):
    long = {"prompt": "north " * 30_000, "completion": "north"}
    evaluation = evaluate(loaded, [*FREE, long])
    assert evaluation.loss == evaluate(loaded, FREE).loss
    assert "the model's context ends at 256" in evaluation.note


def test_answers_are_labels_only_if_they_are_few_and_repeat():
    assert label_set(read(LABELLED).rows) == sorted(TONES)
    assert label_set(read(FREE).rows) is None
    assert label_set(read(LABELLED[:5]).rows) is None
    assert label_set(read([LABELLED[0]] * 9).rows) is None
    assert label_set(read([{"text": "plain"}] * 9).rows) is None


def test_an_evaluation_survives_being_written_and_read(loaded):
    for rows in (LABELLED, FREE):
        evaluation = evaluate(loaded, rows)
        assert Evaluation.from_plain(evaluation.plain()) == evaluation


def test_intervals_apart_do_not_overlap():
    assert Estimate(0.7, 0.65, 0.75).apart_from(Estimate(0.4, 0.35, 0.45))
    assert not Estimate(0.7, 0.44, 0.75).apart_from(Estimate(0.4, 0.35, 0.45))


def test_a_run_keeps_base_and_tuned_and_measures_the_base_once(tiny_model, tmp_path):
    run = strop.train(
        LABELLED,
        model=str(tiny_model),
        out=tmp_path / "run",
        max_steps=3,
        batch_size=8,
        learning_rate=1e-2,
        held_out=0,
        quiet=True,
    )
    base, tuned, difference, *_ = compare(run, LABELLED)
    assert tuned.loss.value < base.loss.value
    assert difference["loss"].value == pytest.approx(tuned.loss.value - base.loss.value)
    assert difference["loss"].high < 0 < difference["loss"].rows_needed
    assert run.evaluation is not None
    assert run.evaluation["base"] == base.plain()
    assert run.evaluation["tuned"] == tuned.plain()
    assert '<div class="headline' in run.report.read_text()
    again, *_ = compare(run, LABELLED)
    assert again == base  # the seconds too: it was read, not measured
    other, *_ = compare(run, LABELLED, limit=9)
    assert other.rows == 9


def test_what_a_run_forgot_is_measured_on_general_texts_questions_and_the_users_rows(
    tiny_model, tmp_path
):
    data = save_chats(tmp_path / "rows.jsonl", 12)
    run = train(data, model=tiny_model, out=tmp_path / "run", held_out=4, max_steps=1, bits=32)
    forgetting = compare(run, metrics=Metrics(names=[], forgetting=True, retain=data)).forgetting
    assert forgetting.keys() == {"text", "questions", "retain"}
    assert forgetting["text"].base.rows == 20
    assert forgetting["questions"].base.rows == 60
    assert forgetting["retain"].base.rows == 12
    for name, measure in (("text", "perplexity"), ("questions", "choice_accuracy")):
        change = forgetting[name].difference[measure]
        assert change.low <= change.value <= change.high
    before, after, change, *_ = forgetting["text"]
    assert change["loss"].value == pytest.approx(after.loss.value - before.loss.value)


def test_without_data_a_run_is_measured_on_the_rows_it_held_out(tiny_model, tmp_path):
    data = save_chats(tmp_path / "rows.jsonl", 12)
    run = train(data, model=tiny_model, out=tmp_path / "run", held_out=4, max_steps=1, bits=32)
    base, tuned, *_ = compare(run)
    assert base.rows == tuned.rows == 4
    assert tuned.note is None
    assert evaluate(run).loss.value == pytest.approx(run.log[-1]["held_out_loss"], rel=1e-5)
    _, tuned, *_ = compare(run, data)
    assert tuned.note == (
        "8 of these 12 rows are among those that the run was trained on, so they say little of new ones"
    )


def test_what_holds_out_no_rows_is_named(loaded, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="only a run has held-out rows"):
        evaluate(loaded)
    settings = {"model": tiny_model, "max_steps": 1, "bits": 32, "held_out": 0}
    data = save_chats(tmp_path / "rows.jsonl", 8)
    run = train(data, out=tmp_path / "run", **settings)
    with pytest.raises(ConfigError, match="held out no rows; name a file"):
        compare(run)
    given = train(sums(8), out=tmp_path / "given", **settings)
    with pytest.raises(ConfigError, match="rows that are no longer at hand"):
        compare(given)
