"""Tasks of lm-evaluation-harness on strop's model: its prompts and metrics, our scorer and sampler."""
