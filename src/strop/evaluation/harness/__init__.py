"""Tasks of lm-evaluation-harness on strop's model: its prompts and metrics, our scorer and sampler."""

import importlib

from strop.core import env

with env.unchanged():  # it sets a variable of huggingface_hub when imported
    importlib.import_module("lm_eval")
