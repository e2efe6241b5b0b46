# %%
model, tokenizer = run.load()
for question, old, new in zip(questions, before, answers(model), strict=True):
    print(question, "\n  before:", old.replace("\n", " ")[:150], "\n  after: ", new, "\n")

# %%
from strop.evaluation import compare

comparison = compare(run, test)
base, tuned, difference = (
    part["loss"]
    for part in (comparison.base.metrics, comparison.tuned.metrics, comparison.difference)
)
print(f"loss of right answers {base.value:.2f} before, {tuned.value:.2f} after")
print(
    f"difference {difference.value:+.2f}, 95 % interval {difference.low:+.2f} to {difference.high:+.2f}"
)
