"""Data files made from a seed in many forms, then damaged."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

from benchmarks.trials.damage import BYTES, mutated

WORDS = (
    "rain",
    "hill",
    "näive",
    "海",
    "a,b",
    'say "x"',
    "line\nbreak",
    "",
    "  ",
    "0",
    "null",
    "😀",
)
Row = dict[str, Any]


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))


def _messages(chance: random.Random) -> Row:
    pairs = range(chance.randint(1, 3))
    turns = [(role, _text(chance)) for _ in pairs for role in ("user", "assistant")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _prompt(chance: random.Random) -> Row:
    return {"prompt": _text(chance), "completion": _text(chance)}


def _label(chance: random.Random) -> Row:
    return {"text": _text(chance), "label": chance.choice(("good", "bad", "1", 2))}


def _preference(chance: random.Random) -> Row:
    return {"prompt": _text(chance), "chosen": _text(chance), "rejected": _text(chance)}


def _plain(chance: random.Random) -> Row:
    return {"text": _text(chance)}


def rows(chance: random.Random) -> list[Row]:
    """Return rows of one format."""
    form = chance.choice((_messages, _prompt, _label, _preference, _plain))
    return [form(chance) for _ in range(chance.choice((1, 3, 10, 40)))]


def encoding(chance: random.Random) -> str:
    """Return an encoding, UTF-8 most often."""
    names = ("utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1", "shift_jis", "utf-32")
    return chance.choice(("utf-8",) * 12 + names)


def _lines(table: list[Row], chance: random.Random) -> str:
    end = chance.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\n", "\u2028"))
    return end.join(_json(row, chance) for row in table) + chance.choice(("", end))


def _json(row: Any, chance: random.Random) -> str:
    text = json.dumps(row, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.03 and isinstance(row, dict):
        key = chance.choice(list(row))
        text = text[:-1] + f", {json.dumps(key)}: {json.dumps(chance.choice(WORDS))}}}"
    return text


def _array(table: list[Row], chance: random.Random) -> str:
    return "[" + ", ".join(_json(row, chance) for row in table) + "]"


def _columns(table: list[Row], chance: random.Random) -> str:
    return json.dumps({key: [row.get(key) for row in table] for key in table[0]})


def _csv(table: list[Row], chance: random.Random) -> str:
    out = io.StringIO()
    delimiter = chance.choice((",", ",", ";", "\t", "|"))
    names = list(table[0])
    if chance.random() < 0.05:
        names.append(names[0])
    quoting = chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    writer.writerow(names)
    for row in table:
        values = [row.get(name) for name in names]
        if chance.random() < 0.03:
            values = values[: chance.randrange(len(values) + 1)] + ["more"] * chance.randrange(3)
        writer.writerow(v if isinstance(v, str | int | None) else json.dumps(v) for v in values)
    return out.getvalue()


def _as_text(table: list[Row], chance: random.Random) -> str:
    return chance.choice(("\n", "\n\n", "\x0c", "\0")).join(map(str, table))


FORMS: dict[str, Callable[[list[Row], random.Random], str]] = {
    "jsonl": _lines, "ndjson": _lines, "json": _array, "csv": _csv, "tsv": _csv, "txt": _as_text,
    "md": _as_text, "html": _as_text,
}  # fmt: skip


def write(chance: random.Random) -> tuple[str, str, bytes]:
    """Return a suffix, what was done, and the bytes of a file."""
    if chance.random() < 0.25:
        return parquet(chance)
    suffix = chance.choice((*FORMS, "jsonl", "jsonl", "csv", "json"))
    table: Any = rows(chance)
    done = []
    if chance.random() < 0.6:
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(len(table))
            changed = mutated(table[place], chance)
            table[place] = changed if suffix in ("jsonl", "ndjson", "json") else _row(changed)
        done.append("values")
    if suffix == "json" and chance.random() < 0.2 and all(isinstance(row, dict) for row in table):
        text = _columns(table, chance)
    else:
        text = FORMS[suffix](table, chance)
    name = encoding(chance)
    content = text.encode(name, "surrogatepass" if name.startswith("utf") else "replace")
    done += [name] if name != "utf-8" else []
    content = _damaged(content, chance, done)
    if chance.random() < 0.15:
        suffix, content = f"{suffix}.gz", gzip.compress(content, mtime=0)
        done.append("gzip")
        content = _damaged(content, chance, done)
    return suffix, " ".join(done), content


def _row(value: Any) -> Row:
    return value if isinstance(value, dict) and value else {"text": str(value)}


def _damaged(content: bytes, chance: random.Random, done: list[str]) -> bytes:
    if chance.random() < 0.3:
        kind = chance.choice(BYTES)
        done.append(kind.__name__)
        return kind(content, chance)
    return content


def parquet(chance: random.Random) -> tuple[str, str, bytes]:
    """Return a Parquet file with columns that are not read, of every type, damaged now and then."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = rows(chance)
    names = list(table[0])
    arrays = [pa.array([row.get(name) for row in table]) if name != "label" else
              pa.array([str(row.get(name)) for row in table]) for name in names]  # fmt: skip
    done = []
    count = len(table)
    for _ in range(chance.randrange(3)):
        kind, column = chance.choice(list(_odd(pa, count, chance).items()))
        names.append(chance.choice((kind, kind, names[0])) if chance.random() < 0.3 else kind)
        arrays.append(column)
        done.append(kind)
    out = io.BytesIO()
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in zip(names, arrays, strict=True)]
    )
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), out)
    return "parquet", " ".join(done), _damaged(out.getvalue(), chance, done)


def _odd(pa: Any, count: int, chance: random.Random) -> dict[str, Any]:
    """Return columns of values that Python has no place for, or that nobody expects."""
    bits = chance.choice((2**62, -(2**62), 2**40, 0))
    return {
        "timestamp": pa.array([bits] * count, pa.int64()).cast(pa.timestamp("us"), safe=False),
        "duration": pa.array([bits] * count, pa.int64()).cast(pa.duration("s"), safe=False),
        "date": pa.array([2**31 - 1] * count, pa.int32()).cast(pa.date32()),
        "binary": pa.array([chance.randbytes(8)] * count, pa.binary()),
        "text": pa.Array.from_buffers(
            pa.string(), count, pa.array([b"\xff\xfe"] * count, pa.binary()).buffers()
        ),
        "nested": pa.array([[{"a": [1]}]] * count),
        "nulls": pa.nulls(count),
        "decimal": pa.array([1] * count).cast(pa.decimal128(30, 2)),
        "map": pa.array([[("k", 1)]] * count, pa.map_(pa.string(), pa.int64())),
        "half": pa.array([1.0] * count).cast(pa.float16()),
        "dictionary": pa.array(["x"] * count).dictionary_encode(),
        "unsigned": pa.array([2**64 - 1] * count, pa.uint64()),
    }
