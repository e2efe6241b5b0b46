"""Kinds of findings: severity, meaning and remedy of each."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding."""

    severity: Severity
    """`error`: training on it fails or goes wrong. `warning`: look at it. `info`: good to know."""
    meaning: str
    """Meaning in a few words."""
    remedy: str
    """Action to take."""


_CORRECT = "Correct the rows or take them out; --fix takes them out."
_LIMIT = "Raise max_length, or the model learns to stop nowhere."
_TEMPLATE = "Take a model whose chat template writes it, or put it into the text."
_BOTH = "Take them out of one of the two."

KINDS = {
    "bad_json": Kind("error", "a line is no valid JSON", _CORRECT),
    "bad_type": Kind("error", "a field holds something of another type", _CORRECT),
    "bad_csv": Kind("error", "a row has more or fewer fields than columns", _CORRECT),
    "not_utf8": Kind(
        "error",
        "bytes are no UTF-8",
        "Save the file as UTF-8, or name its encoding with --encoding, as in --encoding cp1252.",
    ),
    "lone_surrogate": Kind("error", "a text has half a character", _CORRECT),
    "unreadable_file": Kind("error", "a file of a folder cannot be read", _CORRECT),
    "missing_column": Kind("error", "a row lacks a column that the others have", _CORRECT),
    "no_role": Kind("error", "a message has no role", _CORRECT),
    "unknown_role": Kind("error", "a message has a role that is not known", _CORRECT),
    "no_answer": Kind(
        "error", "a conversation has no answer", "Add an answer or take the row out."
    ),
    "empty_answers": Kind("error", "an answer is empty", "Write the answer or take the row out."),
    "empty_text": Kind("error", "a text is empty", _CORRECT),
    "equal_pair": Kind("error", "chosen and rejected are equal", _CORRECT),
    "no_supervised_token": Kind(
        "error",
        "no token of a row carries loss",
        "Raise max_length, shorten the rows, or add answers.",
    ),
    "template_refuses": Kind(
        "error",
        "the chat template refuses a row or leaves its answer out",
        "Bring the conversations into the form the template expects, or take a model whose template "
        "knows this form.",
    ),
    "endless_word": Kind(
        "error",
        "a text has a million characters and more that are one word to the tokenizer",
        "Put white space between words, or take such stretches out.",
    ),
    "unfit_template": Kind(
        "error",
        "the chat template writes tokens that the model does not have",
        "Set tokenizer.chat_template to the one the model was trained with.",
    ),
    "unread_content": Kind(
        "error",
        "columns with content that the format does not read",
        "Say what they are with --map, as in --map NAME=context, or leave them out with "
        "--ignore-columns NAME.",
    ),
    "dropped_answer": Kind(
        "error",
        "the chat template leaves out words of an answer, as those beside a tool call",
        _TEMPLATE,
    ),
    "dropped_calls": Kind(
        "error",
        "the chat template leaves out tool calls of an answer, or arguments of them",
        _TEMPLATE,
    ),
    "leak": Kind("error", "rows stand in the held-out part as well", _BOTH),
    "near_leak": Kind("warning", "rows are nearly equal to one of the held-out part", _BOTH),
    "dropped_reasoning": Kind(
        "warning",
        "the chat template leaves out the reasoning of an answer, in the text or beside it",
        "The model learns to answer without it; take a template or a model that knows reasoning.",
    ),
    "dropped_tools": Kind(
        "warning", "the chat template leaves out the tools that may be called", _TEMPLATE
    ),
    "dropped_system": Kind("warning", "the chat template leaves out a system message", _TEMPLATE),
    "dropped_tool_results": Kind(
        "warning", "the chat template leaves out what a tool gave back", _TEMPLATE
    ),
    "dropped_questions": Kind(
        "warning", "the chat template leaves out what a user says", _TEMPLATE
    ),
    "dropped_context": Kind(
        "warning",
        "the chat template leaves out words or calls of an answer that is not learned",
        _TEMPLATE,
    ),
    "secrets": Kind(
        "warning",
        "a key or a password",
        "Take it out and withdraw the key: a model can be made to repeat what it learned.",
    ),
    "personal_data": Kind(
        "warning",
        "an e-mail address, a telephone, card, account or insurance number",
        "Replace it by a placeholder unless the model is meant to repeat it.",
    ),
    "refusals": Kind(
        "warning",
        "an answer refuses",
        "Take these rows out, or the model learns to refuse.",
    ),
    "placeholder_answers": Kind(
        "warning",
        "an answer stands for none, as nan, null, N/A or [deleted]",
        "Write the answer or take the row out, unless it is meant literally.",
    ),
    "mojibake": Kind(
        "warning",
        "broken characters, as Ã© for é",
        "Read the original with the right encoding, or run with --fix cleaned.jsonl.",
    ),
    "control_characters": Kind(
        "warning", "invisible control characters", "Take them out, or run with --fix cleaned.jsonl."
    ),
    "repetition": Kind(
        "warning",
        "a text says the same again and again",
        "Shorten or drop them: a model learns to loop from such texts.",
    ),
    "template_markers": Kind(
        "warning",
        "markers of some chat template in a text",
        "The template writes the markers itself; take them out unless they are meant literally.",
    ),
    "special_token_in_text": Kind(
        "warning",
        "a text spells a special token of this model and becomes that token",
        "Take it out, or break it up with a space.",
    ),
    "roles_out_of_order": Kind(
        "warning",
        "turns in an unusual order",
        "Most templates expect: system, then user and assistant in turn.",
    ),
    "empty_prompts": Kind("warning", "an answer to nothing", "Write the question."),
    "duplicates": Kind(
        "warning",
        "rows repeat an earlier one word for word",
        "Take them out, or run with --fix cleaned.jsonl: what is repeated is learned more than the rest.",
    ),
    "label_imbalance": Kind(
        "warning",
        "one of few answers is much rarer than another",
        "Add rows of the rare answers or drop some of the frequent; judge by accuracy per answer.",
    ),
    "label_variants": Kind(
        "warning",
        "one answer is spelt in several ways",
        "Spell it one way, or run with --fix cleaned.jsonl, which takes the most frequent.",
    ),
    "cut": Kind("warning", "an answer is cut off at max_length", _LIMIT),
    "double_begin": Kind(
        "warning",
        "two begin tokens",
        "Take the begin token out of the data: the tokenizer or the template writes it.",
    ),
    "missing_begin": Kind(
        "warning",
        "no begin token, where the tokenizer puts one",
        "Check that the chat template is the model's own.",
    ),
    "missing_end": Kind(
        "warning",
        "the last answer has no end token",
        "Set tokenizer.eos_token, or the model learns to stop nowhere.",
    ),
    "double_end": Kind(
        "warning", "two end tokens", "Take the end token out of the data: it is added."
    ),
    "dropped_earlier_reasoning": Kind(
        "info",
        "the chat template leaves out the reasoning of answers before the last question",
        "Nothing, if the model is to be used so, as most are; else give each as a row of its own.",
    ),
    "dropped_names": Kind(
        "info",
        "the chat template leaves out names of speakers or of tools beside results",
        "Nothing.",
    ),
    "context_cut": Kind("info", "what is cut stands behind all that is learned", "Nothing."),
    "divided": Kind(
        "info",
        "a plain text is longer than max_length and is learned in pieces",
        "Nothing, or raise max_length so that more stands in one piece.",
    ),
    "near_duplicates": Kind(
        "info",
        "rows are nearly equal (MinHash over triples of words)",
        "Look at a few; keep one of each group if they say the same.",
    ),
    "near_duplicates_not_checked": Kind(
        "info", "the package for near-duplicates is absent", 'Run: pip install "strop[data]"'
    ),
    "contradictory_answers": Kind(
        "info",
        "one question has several answers",
        "Nothing, if several answers are right; else decide for one.",
    ),
    "mixed_languages": Kind(
        "info", "rows in several languages", "Nothing, if that is meant; else take the others out."
    ),
    "answers_in_another_language": Kind(
        "info", "an answer in another language than its question", "Nothing, if they translate."
    ),
    "unfinished_answers": Kind(
        "info",
        "some long answers end in the middle of a sentence",
        "Look whether they were cut off when the data was made.",
    ),
    "unused_columns": Kind(
        "info",
        "columns of ids, dates, numbers or one value, or of text that is read already",
        "No action needed if they are notes; otherwise say what they are with --map.",
    ),
    "decoded": Kind(
        "info",
        "a file is not read as it stands, such as one that is not UTF-8",
        "If letters look wrong, name the encoding with --encoding, as in --encoding cp1250.",
    ),
    "columns_understood": Kind(
        "info",
        "how labels, numbers and truth values are read",
        "Nothing, if it is what you mean.",
    ),
    "unwanted_answers": Kind(
        "info",
        "the data marks answers as not wanted (KTO)",
        "Nothing: strop train learns from both by KTO where every row is marked; --method sft leaves "
        "the unwanted ones out.",
    ),
    "preference_pairs": Kind(
        "info",
        "rows are pairs of a chosen and a rejected answer",
        "Nothing: strop train prefers the chosen ones by DPO where every row is a pair; --method sft "
        "imitates them.",
    ),
    "merged_turns": Kind(
        "info",
        "a thought, words and tool calls of one answer stand in messages of their own",
        "Nothing: they are learned as one answer with one end token.",
    ),
    "prompts_alone": Kind(
        "info",
        "rows ask and have no answer",
        "Nothing for reinforcement learning (GRPO, RLOO); to learn by imitation, add answers.",
    ),
    "family_template": Kind(
        "info",
        "the tokenizer has no chat template, its family's is taken",
        "Use the same template when the model is served.",
    ),
    "template_without_end": Kind(
        "info", "the chat template ends answers with no special token", "Nothing."
    ),
}
"""All kinds, by severity."""
