# %% [markdown]
# # Learning by rewards (GRPO)
#
# Nobody writes answers here: the model draws several to each question, a function grades them, and
# what earned more than its neighbours becomes likelier. The reward of this notebook is plain, so that
# a small model shows the effect in a minute: an answer of one short sentence.

# include parts/install.py

# %%
import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## Reward
#
# A function in a file, with the signature that TRL has too. There are ready ones: `number` compares the
# last number with the row's answer, `format=think/answer` looks for tags, `rules=FILE` for a voice;
# several are joined by commas, each with its weight. `environment="gsm_symbolic"` brings problems
# *and* their grading; a model needs to solve some of them already to learn from that.

# %%
from pathlib import Path

Path("my_rewards.py").write_text('''
def brief(prompts, completions, **columns):
    """Return 1 for an answer of up to 4 words, less for longer ones; half of it if it does not end."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [min(1, 4 / max(1, len(t.split()))) * (1 if t.strip().endswith(".") else 0.5) for t in texts]
''')

PROMPTS = [
    "What is a river?", "Why do we sleep?", "What is a bridge for?", "How does a kite fly?",
    "What is a library?", "Why is the sea salty?", "What does a baker do?", "What is snow?",
    "Why do cats purr?", "What is a clock for?", "How do boats float?", "What is a desert?",
    "Why do leaves fall?", "What is a map?", "What does a judge do?", "What is thunder?",
]  # fmt: skip
NEW = ["What is a mountain?", "Why do birds sing?", "What does a pilot do?", "What is a key for?"]

# %% [markdown]
# ## Training

# %% tags=["no-output"]
run = strop.train(
    [{"prompt": f"{prompt} Answer in a few words."} for prompt in PROMPTS],
    model=MODEL,
    bits=16,
    method="grpo",
    reward="my_rewards.py:brief",
    num_generations=8,
    batch_size=16,
    max_completion_length=24,
    max_steps=16,
    learning_rate=1e-3,
    held_out=0,
    out="runs/brief",
    overwrite=True,
    quiet=True,
)

# %%
import matplotlib.pyplot as plt

points = [line for line in run.log if "reward" in line]
_, axes = plt.subplots(figsize=(5, 3))
axes.plot([p["step"] for p in points], [p["reward"] for p in points], marker="o")
axes.set(xlabel="step", ylabel="mean reward of drawn answers", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## Before and after
#
# The likeliest answers to questions that were not trained on.

# %%
chats = [[{"role": "user", "content": f"{question} Answer in a few words."}] for question in NEW]
texts = []
for model, tokenizer in (strop.load(MODEL), run.load()):
    texts.append(strop.sample(model, tokenizer, chats, strop.Sampling(max_new_tokens=40)))
for question, old, new in zip(NEW, *texts, strict=True):
    print(
        question,
        "\n  before:",
        " ".join(old.text.split()),
        "\n  after: ",
        " ".join(new.text.split()),
    )
