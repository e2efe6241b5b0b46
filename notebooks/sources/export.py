# %% [markdown]
# # Taking a model elsewhere: PEFT, transformers, llama.cpp, Ollama
#
# `strop.export` writes a run in the forms that others load, opens each in a fresh process by the loader
# that its users have, and certifies that it agrees with the trained model.

# include parts/install.py

# %%
import strop

MODEL = "{{stand_in}}"  # packaged; or a folder, a GGUF file, or a name on the Hugging Face hub

# %% [markdown]
# ## A run to export
#
# Five firms and three tones.

# %% tags=["no-output"]
news = {"positive": "profits doubled", "negative": "shares fell", "neutral": "the board met"}
firms = ("Alma", "Borea", "Cetus", "Dana", "Ebro")
rows = [
    {"prompt": f"Tone of: At {firm} {text}.", "completion": tone}
    for firm in firms
    for tone, text in news.items()
]
run = strop.train(
    rows,
    model=MODEL,
    bits=16,
    out="runs/tones",
    overwrite=True,
    quiet=True,
    epochs=4,
    batch_size=6,
    learning_rate=1e-3,
    held_out=3,
    eval_every=2,
)

# include parts/curve.py

# %% [markdown]
# ## Export
#
# `adapter` is for PEFT, `merged` for transformers, vLLM and others, `gguf` for llama.cpp; `"ollama"`
# writes a Modelfile beside the GGUF file, with the template and the stop tokens of training.

# %% tags=["no-output"]
exports = strop.export(run, "adapter", "merged", "gguf", quant="f16,q8_0")

# %%
for each in exports:
    certificate = each.certificate
    state = "certified" if certificate.passed else certificate.faults
    print(
        f"{each.target:8} {each.format:9} {each.nbytes / 1e6:6.0f} MB, {state}, {certificate.opened_by}"
    )

# %%
_, axes = plt.subplots(figsize=(5, 2))
axes.barh([f"{e.target} {e.format}" for e in exports], [e.nbytes / 1e6 for e in exports])
axes.set(xlabel="MB")
plt.show()

# %% [markdown]
# ## Another program loads it
#
# transformers alone, without strop:

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = next(e.path for e in exports if e.target == "merged")
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
chat = [{"role": "user", "content": "Tone of: At Lund profits doubled."}]
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**inputs, max_new_tokens=6, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

# %% [markdown]
# The GGUF file runs anywhere llama.cpp does: `llama-cli -m tones.gguf`, or `strop serve runs/tones`
# for a server that answers as OpenAI's does.
