# %% [markdown]
# # Learning from preferences (DPO)
#
# A small model talks too much. Here it learns from pairs: to each question a short answer that is
# preferred, and its own long one that is not. Other methods on the same rows: `method="orpo"`,
# `"simpo"`, `"ipo"`; rows with one marked answer each: `"kto"`.

# include parts/install.py

# %%
import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## Data
#
# The rejected answers are the model's own.

# %%
SHORT = {
    "What is the capital of France?": "Paris.",
    "Which planet is the largest?": "Jupiter.",
    "How many legs does a spider have?": "Eight.",
    "What do bees make?": "Honey.",
    "Which metal is liquid at room temperature?": "Mercury.",
    "What does a thermometer measure?": "Temperature.",
    "Who wrote Hamlet?": "William Shakespeare.",
    "How many days does a leap year have?": "366.",
    "What is frozen water called?": "Ice.",
    "Which ocean is the largest?": "The Pacific.",
    "What gas do plants take in?": "Carbon dioxide.",
    "What is the currency of Japan?": "The yen.",
    "Which organ pumps blood?": "The heart.",
    "How many sides does a hexagon have?": "Six.",
    "What is the opposite of north?": "South.",
    "Which animal is the tallest?": "The giraffe.",
    "What is bread made from?": "Flour, water and yeast.",
    "How many minutes does an hour have?": "Sixty.",
    "Where do penguins live?": "In the south, most of them in Antarctica.",
    "What is the capital of Italy?": "Rome.",
}
NEW = [
    "What is the capital of Spain?",
    "How many wheels does a car have?",
    "What do cows eat?",
    "Which star is nearest to the Earth?",
    "What is the colour of snow?",
    "How many months does a year have?",
    "What is wine made from?",
    "Which bird cannot fly?",
]


def answers(model, questions):
    """Return the likeliest answer to each question, cut after 48 tokens."""
    chats = [[{"role": "user", "content": question}] for question in questions]
    return [
        a.text.strip()
        for a in strop.sample(model, tokenizer, chats, strop.Sampling(max_new_tokens=48))
    ]


model, tokenizer = strop.load(MODEL)
rejected = answers(model, SHORT)
before = answers(model, NEW)
del model
rows = [
    {"prompt": question, "chosen": short, "rejected": long}
    for (question, short), long in zip(SHORT.items(), rejected, strict=True)
    if short != long
]
print(rows[0])

# %% [markdown]
# ## Training
#
# strop sees `chosen` and `rejected` and takes DPO.

# %% tags=["no-output"]
run = strop.train(
    rows,
    model=MODEL,
    bits=16,
    out="runs/short",
    overwrite=True,
    quiet=True,
    epochs=2,
    batch_size=4,
    learning_rate=5e-5,
    held_out=4,
    eval_every=4,
)

# include parts/curve.py

# %% [markdown]
# ## Before and after
#
# Words of the answers to questions that were not trained on.

# %%
model, tokenizer = run.load()
after = answers(model, NEW)
for question, old, new in zip(NEW, before, after, strict=True):
    print(
        question,
        "\n  before:",
        " ".join(old.split())[:120],
        "\n  after: ",
        " ".join(new.split())[:120],
    )

# %%
lengths = [[len(text.split()) for text in texts] for texts in (before, after)]
_, axes = plt.subplots(figsize=(5, 3))
axes.plot(["before", "after"], lengths, marker="o")
axes.set(ylabel="words of an answer", ylim=(0, None))
plt.show()
