# %% [markdown]
# # Fine-tuning on your own answers (SFT)
#
# Teaches a small model how a company answers its customers, from two dozen examples, and looks at the
# answers before and after. Replace the examples with your own: rows with `prompt` and `completion`,
# with `messages`, or a CSV, JSONL or Parquet file's path.

# include parts/install.py

# %%
import strop

MODEL = (
    "smollm2-135m-instruct"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub
)

# %% [markdown]
# ## Data
#
# Every answer thanks, answers in one sentence, and signs as Mira: a manner that no prompt asks for.

# include parts/manner.py

# %% [markdown]
# ## What is learned of a row
#
# Brackets mark the tokens that carry loss; the others are context.

# %%
from strop.data import read, show

base, tokenizer = strop.load(MODEL)
for piece in show(read(rows[:1]).rows[0], tokenizer):
    print(f"[{piece.text}]" if "supervised" in piece.kind else piece.text, end="")

# include parts/questions.py

# %% [markdown]
# ## Training

# %% tags=["no-output"]
run = strop.train(
    train,
    model=MODEL,
    bits=16,
    out="runs/manner",
    overwrite=True,
    quiet=True,
    epochs=6,
    batch_size=4,
    learning_rate=1e-3,
    held_out=4,
    eval_every=5,
)

# include parts/curve.py

# %% [markdown]
# ## Before and after
#
# Questions that were not trained on.

# include parts/manner_gain.py

# %% [markdown]
# It has learned the manner; what is true of this shop it cannot know of questions that it never saw.
# For that, show it documents (`retrieval.ipynb`) or teach it facts (`knowledge.ipynb`).
