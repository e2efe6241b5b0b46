# %% [markdown]
# # Did it get better?
#
# Base and tuned model answer the same rows, and what counts is the difference row by row, with its
# interval: small test sets fool, and this says how much.

# include parts/install.py

# %%
import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# include parts/news.py

# %% tags=["no-output"]
run = strop.train(
    train,
    model=MODEL,
    bits=16,
    out="runs/tone",
    overwrite=True,
    quiet=True,
    epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    held_out=16,
    eval_every=3,
)

# include parts/curve.py

# %% [markdown]
# ## Before, after, difference

# include parts/gain.py

# %%
from strop.evaluation import compare

comparison = compare(run, test)
show_gain(comparison, "accuracy")

# %%
for name, difference in comparison.difference.items():
    sure = "surely" if difference.sure else "perhaps by chance"
    print(
        f"{name:18} {difference.value:+8.3f}  ({difference.low:+.3f} to {difference.high:+.3f})  {sure};"
        f" rows to be sure of such a difference: {difference.rows_needed}"
    )

# %% [markdown]
# ## Where it is wrong
#
# Right labels in rows, the tuned model's choices in columns.

# %%
confusion = comparison.tuned.confusion
labels = sorted(confusion)
counts = [[confusion[right].get(choice, 0) for choice in labels] for right in labels]
_, axes = plt.subplots(figsize=(4, 3))
dark = max(map(max, counts)) / 2
axes.imshow(counts, cmap="Blues")
axes.set(
    xticks=range(len(labels)), xticklabels=labels, yticks=range(len(labels)), yticklabels=labels
)
for y, line in enumerate(counts):
    for x, count in enumerate(line):
        axes.text(x, y, count, ha="center", va="center", color="white" if count > dark else "black")
plt.show()

# %% [markdown]
# ## A gate
#
# The same on the command line ends with exit code 1 where a measure is too low: for a script that
# decides whether a model goes out.

# %%
import json
from pathlib import Path

Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
# !strop eval runs/tone test.jsonl --no-forgetting --fail-below accuracy=0.95 --json > eval.json
print(json.loads(Path("eval.json").read_text())["gate"])
