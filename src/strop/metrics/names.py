"""Names of measures."""

LABEL_METRICS = ("accuracy", "macro_f1", "calibration_error")
"""Measures of rows whose answers are labels."""
CHOICE_METRICS = ("choice_accuracy", "choice_accuracy_per_byte", "choice_accuracy_per_token")
"""Share of questions whose likeliest choice is right: by log-probability, also by its length."""
BESIDE_REFERENCE = (
    "exact_match",
    "token_f1",
    "rouge_l",
    "chrf",
    "contains",
    "number",
    "json_fields",
)
"""Measures of a generated answer beside the right one."""
ALONE = ("json_valid", "length", "regex", "json_schema")
"""Measures of a generated answer alone."""
GENERATED = (*BESIDE_REFERENCE, *ALONE)
METRICS = ("loss", "perplexity", *LABEL_METRICS, *CHOICE_METRICS, *GENERATED)
"""Every measure that can be named."""
UNBOUNDED = ("loss", "perplexity", "length")
"""Measures that are no shares."""
RIGHT_OR_WRONG = ("exact_match", "contains", "number", "json_valid", "json_schema", "regex")
"""Measures of a generated answer that are 0 or 1."""
LOWER_IS_BETTER = ("loss", "perplexity", "calibration_error")
"""Measures of which less is better."""
