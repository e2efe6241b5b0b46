# %% [markdown]
# # Documents and fine-tuning together
#
# Documents hold what changes, training teaches the manner. A model that was tuned without documents
# may get worse when it is shown some, so it is trained with them: the right one hidden among others
# (RAFT), and compared with retrieval that works, misleads or is down.

# include parts/install.py

# %%
import json
from pathlib import Path

import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## Documents
#
# A hotel's rooms: what a guest may ask about. Eighteen rooms are trained on, six are new.

# %%
NAMES = [
    "Amber",
    "Birch",
    "Cedar",
    "Coral",
    "Daisy",
    "Elm",
    "Fern",
    "Fig",
    "Gorse",
    "Hazel",
    "Heron",
    "Iris",
    "Ivy",
    "Juniper",
    "Lark",
    "Laurel",
    "Linden",
    "Maple",
    "Olive",
    "Quince",
    "Rowan",
    "Sage",
    "Teal",
    "Willow",
]
Path("hotel").mkdir(exist_ok=True)
questions = []
for number, name in enumerate(NAMES):
    price, floor = 80 + 7 * number, 1 + number % 5
    text = f"The {name} room is on floor {floor}. A night costs {price} euros, with breakfast."
    Path(f"hotel/{name}.md").write_text(f"# {name}\n\n{text}\n")
    questions.append(
        {
            "question": f"What does a night in the {name} room cost?",
            "answer": f"{price} euros",
            "context": text,
        }
    )
for file, part in (("train.jsonl", questions[:18]), ("test.jsonl", questions[18:])):
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in part))

# %% tags=["no-output"]
# !strop index hotel --out hotel.index --embedder none --json > index.json

# %%
# !strop search hotel.index "price of the Heron room" --k 2 --json > search.json
for hit in json.loads(Path("search.json").read_text())["hits"]:
    print(f"{hit['score']:.2f}", hit["source"], "|", hit["text"])

# %% [markdown]
# ## Training with documents

# %% tags=["no-output"]
# !strop raft train.jsonl --index hotel.index --out rows.jsonl --distractors 2 --json > raft.json

# %%
print(json.loads(Path("rows.jsonl").read_text().splitlines()[0])["messages"][-1]["content"])

# %% tags=["no-output"]
run = strop.train(
    "rows.jsonl",
    model=MODEL,
    bits=16,
    out="runs/hotel",
    overwrite=True,
    quiet=True,
    epochs=4,
    batch_size=4,
    learning_rate=1e-3,
    held_out=3,
    eval_every=4,
)

# include parts/curve.py

# %% [markdown]
# ## Base and tuned, with documents and without
#
# Six rooms that were not trained on. `works` shows what retrieval finds, `misleads` passages drawn at
# random, and without either the model answers alone: what it says then, it cannot know.

# %% tags=["no-output"]
# !strop compare runs/hotel test.jsonl --index hotel.index --max-tokens 32 --json > compare.json

# %%
arms = json.loads(Path("compare.json").read_text())["arms"]
_, axes = plt.subplots(figsize=(5, 2.6))
axes.barh(list(arms)[::-1], [arm["contains"]["value"] for arm in arms.values()][::-1])
axes.set(xlabel="share of answers with the right price", xlim=(0, 1))
plt.show()

# %% [markdown]
# `strop ask runs/hotel --index hotel.index "..."` answers one question and names its sources,
# `strop serve runs/hotel --index hotel.index` answers over HTTP.
