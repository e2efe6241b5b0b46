# %% [markdown]
# # {{title}}
#
# Teaches {{title}} how a company answers its customers, from twenty examples, and compares its answers
# before and after. Runs from top to bottom on Colab's or Kaggle's free machine, with or without a GPU,
# and on a laptop.
#
# The outputs below were made with a stand-in, `{{stand_in}}`, whose weights come as a package{{alike}}:
# no account, no large download. **For {{title}} itself change the line `MODEL, BITS = ...`**
# to the one beside it. {{note}}

# include parts/install.py

# %%
import strop

MODEL, BITS = "{{stand_in}}", 16  # itself: MODEL, BITS = "{{model}}", {{bits}}

# %% [markdown]
# ## Data
#
# Every answer thanks, answers in one sentence, and signs as Mira: a manner that no prompt asks for. Put
# in your own: rows with `prompt` and `completion`, with `messages`, or the path of a CSV, JSONL or
# Parquet file.

# include parts/manner.py

# %% [markdown]
# ## Before

# %%
base, tokenizer = strop.load(MODEL, bits=BITS)

# include parts/questions.py

# %% [markdown]
# ## Training
#
# A LoRA adapter on all linear layers. `BITS` 16 leaves the weights as they are; 4 is QLoRA, which
# needs a third of the memory, and takes some minutes once for each model to fit its weights.

# %% tags=["no-output"]
run = strop.train(
    train,
    model=MODEL,
    bits=BITS,
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
# ## After
#
# Questions that were not trained on.

# include parts/manner_gain.py

# %% [markdown]
# ## The template
#
# {{template_note}}

# %%
from strop.data import family_template

chat = [{"role": "user", "content": questions[0]}]
template = {"chat_template": family_template("{{template}}"), "bos_token": ""}
print(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **template))

# %% [markdown]
# ## Taking it elsewhere
#
# `strop.export(run, "gguf", quant="q4_k_m")` writes a file for llama.cpp and Ollama,
# `strop.export(run, "merged")` a folder for transformers and vLLM; each is opened again and compared
# with the trained model. The run lies in `runs/manner`, with a report to open in a browser:

# %%
print(run.report)
