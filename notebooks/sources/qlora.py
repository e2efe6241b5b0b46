# %% [markdown]
# # Fine-tuning in 4 bits (QLoRA)
#
# The frozen weights lie in 4 bits each, the adapter on them trains as ever: a third of the memory of 16
# bits. What rounding loses is fitted to a text, once for each model, which takes some minutes for the
# small model here and is kept in a cache.

# include parts/install.py

# %%
import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## What the weights take

# %% tags=["no-output"]
sizes = {}
for bits in (16, 4):
    model, tokenizer = strop.load(MODEL, bits=bits)
    held = {t.data_ptr(): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    sizes[bits] = sum(held.values()) / 1e6
    del model

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(figsize=(5, 1.6))
axes.barh([f"{bits} bits" for bits in sizes], list(sizes.values()))
axes.set(xlabel="MB of weights")
plt.show()
print({bits: f"{size:.0f} MB" for bits, size in sizes.items()})

# %% [markdown]
# Embeddings stay in 16 bits, and they are a large part of a model as small as this one; of a model of
# seven billion weights they are few.

# include parts/news.py

# %% [markdown]
# ## Training

# %% tags=["no-output"]
run = strop.train(
    train,
    model=MODEL,
    bits=4,
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
# ## Before and after
#
# Base and tuned model in 4 bits, on sentences that were not trained on.

# include parts/gain.py

# %%
from strop.evaluation import compare

show_gain(compare(run, test), "accuracy")

# %% [markdown]
# More exact still: `strop quantize MODEL --budget 1.10 --out DIR` gives more bits where they matter,
# and `strop.train(..., model="DIR")` trains on that.
