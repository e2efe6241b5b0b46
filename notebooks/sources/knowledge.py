# %% [markdown]
# # Teaching a model new facts
#
# Trained on a text alone, a model learns its sentences and not its facts. `strop teach` trains on
# each fact in several wordings, mixes in general text against forgetting, and asks in a wording that
# was not trained on.

# include parts/install.py

# %%
import json
from pathlib import Path

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## Facts that no model has read

# %%
LEADERS = {
    "Brafendan": "Ines Aurel", "Delgorby": "Tomas Wick", "Fenlumley": "Rada Quist",
    "Gormarsen": "Olaf Perrin", "Hulnevton": "Mina Sorel", "Jaspolford": "Karim Beck",
    "Kelrosmar": "Lea Dunant", "Lumtavwick": "Jon Alder",
}  # fmt: skip
WORDINGS = (
    "Who leads the {} office?",
    "Who is the head of the {} office?",
    "Name the person in charge of the {} office.",
    "Which person heads the {} office?",
    "Tell me who runs the {} office.",
    "Who is responsible for the {} office?",
)
Path("handbook").mkdir(exist_ok=True)
rows = []
for office, leader in LEADERS.items():
    text = f"The {office} office is led by {leader}. Letters to it go through the post room."
    Path(f"handbook/{office}.md").write_text(f"# {office}\n\n{text}\n")
    rows.append({"questions": [wording.format(office) for wording in WORDINGS], "answer": leader})
Path("facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
print(rows[0])

# %% [markdown]
# ## Teaching

# %% tags=["no-output"]
# !strop teach handbook --model {MODEL} --questions facts.jsonl --out runs/handbook --json \
#   --bits 16 --learning-rate 1e-3 --epochs 8 > teach.json

# %%
learned = json.loads(Path("teach.json").read_text())
for name in ("recall", "forgetting"):
    print(name, json.dumps(learned[name], indent=1))

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(figsize=(5, 1.8))
recall = learned["recall"]
axes.barh(["after", "before"], [recall["after"]["value"], recall["before"]["value"]])
axes.set(xlabel="facts recalled in a wording not trained on", xlim=(0, 1))
plt.show()

# %% [markdown]
# `forgetting` is by how much the perplexity of general text rose: a high learning rate teaches fast and
# forgets more. `recall.svg` in `runs/handbook.teach` draws recall by what was trained on. A fact that changes next
# month belongs into documents instead: `retrieval.ipynb`.
