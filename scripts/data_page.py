"""Write docs/data.md from what is declared: formats, settings, kinds of findings.

Every example of a row is read here, and must be recognised as the format it stands for.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wrap import write_page

from strop.data import read
from strop.data.checking.finding_kinds import KINDS
from strop.data.encoding.templates import CHAT_TEMPLATES
from strop.data.formats.classification import MOST_NAMED
from strop.data.formats.known import FORMATS
from strop.data.formats.questions import BESIDE, REASONING
from strop.data.formats.survey import LONGEST_LABEL
from strop.data.preview import MEANING
from strop.data.reading.documents import TEXT_SUFFIXES
from strop.data.reading.files import LONGEST_LINE
from strop.data.reading.sources import SUFFIXES
from strop.planning.settings import described

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
EXAMPLES = json.loads(Path(__file__).with_name("data_examples.json").read_text(encoding="utf-8"))
"""Rows of each format."""

SHOWN = (
    *("map", "ignore_columns", "instruction", "encoding"),
    *("answers", "end_token", "reasoning", "max_length"),
)
"""Settings that are about data."""

HEAD = """# Data

Give strop the file you have. (`make pages` writes this page from what the code declares.)

## Files

| what | read |
|---|---|
| tables | {tables}, plain or gzip (`rows.jsonl.gz`); spreadsheets need `strop[data]` |
| texts, for continued pre-training | {texts}: a file or a folder; PDF needs `strop[data]` |
| `datasets` | a folder that `save_to_disk` wrote, or in Python the object itself; classes by their names |
| the hub | `hf:owner/name:split`, only if you ask for it by this name |
| Python | a list of dictionaries, a dictionary of columns, a pandas or polars DataFrame, an Arrow table |

JSON may be one object a line, a list, objects one after another or a table by columns, whatever its
suffix; CSV may come from Excel, with semicolons, `sep=;`, empty columns and rows; of a spreadsheet the
first sheet with anything in it is read. Names of columns
are read in any case, and nulls that a Parquet table put inside calls and tools are taken out; those
of a `datasets` column of JSON are the data's own and stay.

Text files are UTF-8. A CSV, TSV, text or page that is not is read as UTF-16, where it begins with
that mark, or as cp1252, as Excel writes CSV in Western Europe and America, if all of the file fits;
`data check` and the plan say so. `--encoding cp1250` names another, for JSON too. A file that fits
none as a whole has its faulty rows named, and `--fix` drops no row that one encoding of the file
explains.

Two columns or two keys of one name are refused, in Parquet and in cells of JSON too. Values that
Python cannot hold, as dates beyond the year 9999 or texts that are not UTF-8 in Parquet, are faults
only where the column is read.

JSONL, CSV and Parquet are read row by row, so a file may be larger than memory
(`strop.data.stream`); a line may have {line} MiB. Nothing in data is run: templates are rendered in
a sandbox with limits on processor time, steps, bytes and depth, here as in `chat` and `export`
(llama.cpp renders by itself what `serve` and a GGUF file's `chat` ask it; a file is tried first in a
process of its own, where opening it and rendering one chat have limits of time and
memory); archives that grow without bound are refused.
Reading and checking a long row without a model takes at most six times its memory.

## Formats

Which format a file has is told by the columns of all its rows, not of the first ones; `strop data
check` shows the evidence. Rows that do not fit the format of the rest are named, not skipped.
Columns by other names are mapped: `strop data check rows.csv --map ask=prompt,reply=completion`.
`strop train`, `eval`, `data check` and `data show` take `--map`, `--ignore-columns`,
`--instruction` and `--encoding`; a run keeps them, so that `strop eval RUN FILE` and `strop export`
read columns as training did, unless the file has other columns or `--map` says otherwise.

| format | columns | read as well, where they are there |
|---|---|---|
{formats}

A row of each:

```json
{examples}
```

Of names joined by *or* the first that is there is read.

- **Beside a question** stand {beside}: behind it, in this order, each
  after an empty line, the choices as `A. ...`. An answer that is the number of a choice (from 0)
  becomes its letter; a letter or the choice itself stays as written. Choices may be a list, an
  object by letters, either as JSON or as Python writes it (`['a', 'b']`), or columns of their own:
  `A`, `B`, `C`, or `option_a`, `choice1` and the like. Beside columns numbered from 1, and where the
  answers reach the number of columns and never 0, numbers count from 1; `strop data check` says so.
- **Reasoning** is one of {reasoning}; it becomes the
  `reasoning_content` of the answer. `history` holds the turns before the question.
- **Classification**: the question is `Classify the text as one of: bad, good.`, an empty line, and
  the text; the answer is the label as written. Up to {named} labels are named, in the order of
  letters or numbers; of more the sentence is `Classify the text.` `--instruction` takes another
  sentence (empty for none), as does a column `instruction`; `--map text=prompt,label=completion`
  reads the same rows as plain questions and answers. Classes of `datasets`, and of Parquet files
  that it wrote, stand by their names. Labels are short (up to {label} characters on one line); a
  `target` is a label if its values repeat, else an answer.
- **Numbers and truth values** in a column of texts are read as written: `1`, `1.0`, `0.10`, `true`.
- **KTO**: `label` marks answers where it holds true and false; numbers such as 0 and 1 may be
  classes, so they need `--map label=kto_tag`.
- **Columns that are not read**: a column with content (texts, words that vary, truth values; not
  ids, addresses, dates, hashes, numbers, one value) that the format does not read stops `strop
  train`, until `--map` says what it is or `--ignore-columns` that it is to be left out. It need not
  where nearly every value stands in what was read of its row (a `prompt` beside `messages`), or
  is made of all of it (a `text` written by a template), nor where it is a category beside a question
  and its answer: one word of a few, such as `category` or `difficulty`; the plan names it.

Several sources are trained on as one: `strop train a.jsonl b.csv:0.5`, in YAML

```yaml
data:
  - a.jsonl
  - path: b.csv
    weight: 0.5
    map: ask=prompt,reply=completion
```

A weight of 0.5 takes half of the rows, drawn once by the seed; 2 takes each twice an epoch. Rows
are held out before weights count. A source may have its own `map`, `ignore_columns` and
`instruction`. The plan shows the rows of each, and from which number its lines are counted.

Roles may also be called as in ShareGPT (`human`, `gpt`, `observation`, `function_call`). An
assistant's message may have `tool_calls`, and its reasoning as `reasoning_content`, `reasoning` or
`thinking`, or as a part of that type. A thought, the words beside a call and the calls of one answer
may stand in messages of their own; they are learned as one answer. Empty forms of `tool_calls`,
`function_call` and `tools` mean none, `refusal` stands for a content that is null, and what a tool gave
back may be any JSON value.

Texts in a list of turns are those of user and assistant, one after the other. `chosen` and `rejected`
without a prompt may be transcripts as in HH-RLHF, `Human: ...`, an empty line, `Assistant: ...`. An
answer that is a call of the row's `tools` or a list of them, `[{{"name": "rain", "arguments": {{}}}}]`, as
in xLAM, is learned as tool calls; `--ignore-columns tools` leaves it a text.

`strop train` imitates answers, but where every row has a `chosen` and a `rejected` one, and where every
row marks its answer as wanted or not, of both kinds: from pairs it learns by DPO (`--method dpo`, also
`ipo`, `orpo`, `simpo`), from marked answers by KTO (`--method kto`). `--method sft` imitates the chosen,
or the wanted answers. The plan says which method was taken.

## What is learned

For a conversation: what the assistant wrote, each answer with the token that ends it. For a plain
text: all of it, with the end-of-text token. The borders are found by following every character
through the template and the tokenizer, never by searching for markers, so a marker inside a user's
text changes nothing. A token that straddles a border carries no loss.

| setting | values | meaning |
|---|---|---|
{settings}

Each message may have a `weight` (or `train: false`): the loss of a step is `sum(weight * -log p) /
learned tokens`; a message of weight 0 is read but not learned. What is longer than `max_length` is
cut at its end and named in the plan, in `run.json` and in the report; a plain text is learned in
pieces instead.

`strop data show rows.jsonl --row 3 --model NAME` shows a row (the one at line 3; without `--row` the
first) as the model will see it: {meaning}.
The report of a run shows its first five rows in the same colours.

## Templates

The tokenizer's own chat template is used; of several the one that transformers would take: `tool_use`
where a row has tools, else `default`. Where it carries none, the one of its family is:
{families}.

Every part of a row is followed through the template: what it leaves out is a `dropped_` finding and a
line of the plan. Training refuses a row only where nothing of an answer to be learned is written. What a
template cannot take is put to it in another form: arguments of calls as the text they were in the data or
as an object, reasoning as `reasoning_content`, `thinking` or `reasoning`, contents as lists of parts.
[templates.md](templates.md) shows what each of many templates writes.

## Findings

`strop data check rows.jsonl --model NAME` counts and measures; it ends with exit code 1 if a
finding is severe (`error`). `--json` prints `{{"findings": [{{"kind", "severity", "rows",
"message", "remedy", "example"}}], "rows", "usable", "format", "columns", "lengths", "languages",
"severe"}}`. `--held-out test.jsonl` finds rows that stand in both, `--fix clean.jsonl` writes the
usable rows, mended, and `clean.changes.jsonl` with every change; `--picture lengths.svg` draws the
lengths, `--speed` gives the minutes of an epoch.

| kind | severity | what is found | what to do |
|---|---|---|---|
{findings}
"""


def page() -> str:
    """Return the page as it should be."""
    formats = [
        f"| {layout.name} | {' + '.join(_names(names) for names in layout.needs)} | "
        f"{', '.join(_groups(layout.also))} |"
        for layout in FORMATS
    ]
    settings = [
        f"| `{name}` | {_choices(default, hint)} | {doc} |"
        for name, (hint, default, doc) in described().items()
        if name in SHOWN
    ]
    findings = [
        f"| `{name}` | {kind.severity} | {kind.meaning} | {kind.remedy} |"
        for name, kind in KINDS.items()
    ]
    return HEAD.format(
        tables=", ".join(SUFFIXES),
        texts=", ".join(TEXT_SUFFIXES),
        beside=", ".join(_names(names) for names in BESIDE),
        reasoning=", ".join(f"`{name}`" for name in REASONING),
        named=MOST_NAMED,
        label=LONGEST_LABEL,
        line=LONGEST_LINE // 2**20,
        formats="\n".join(formats),
        examples="\n".join(_example(**example) for example in EXAMPLES),
        settings="\n".join(settings),
        meaning="; ".join(MEANING.values()),
        families=", ".join(CHAT_TEMPLATES),
        findings="\n".join(findings),
    )


def _groups(also: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Yield the groups of columns that are read as well, the long ones by name."""
    if set(BESIDE) <= set(also):
        yield "*beside a question*"
    for names in also:
        if names == REASONING:
            yield "*reasoning*"
        elif names not in BESIDE:
            yield _names(names)


def _names(names: tuple[str, ...]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _choices(default: Any, hint: Any) -> str:
    if isinstance(default, bool):
        return f"true or false; `{str(default).lower()}`"
    choices = getattr(hint, "__args__", ())
    return " or ".join(f"`{c}`" for c in choices if isinstance(c, str)) or "none"


def _example(format: str, row: dict[str, Any]) -> str:
    name_read = read([row]).format
    assert name_read == format, f"the example of {format} is read as {name_read}"
    return json.dumps(row)


if __name__ == "__main__":
    write_page(PAGE, page())
