"""Answer a bank's customers from its knowledge base: documents, and a model that is trained to read them.

python examples/support/run.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from uses import Use, command, real_rows, write_jsonl

use = Use("support")
documents = use.folder / "documents"
documents.mkdir(exist_ok=True)
write_jsonl(
    documents / "bank.jsonl",
    [{"text": f"{d['title']}\n\n{d['content']}"} for d in real_rows.bank_documents()],
)
index, rows = use.folder / "bank.index", use.folder / "rows.jsonl"
use.write_rows(real_rows.bank_questions(), train=48, test=48)
command("index", str(documents), "--out", str(index), "--embedder", "none", "--chunk-tokens", "96")
flags = ("--out", str(rows), "--distractors", "2", "--overwrite")
command("raft", str(use.train_file), "--index", str(index), *flags)
run = use.train(rows, epochs=1, batch_size=8, learning_rate=5e-4)
compared = command(
    "compare",
    str(run.path),
    str(use.test_file),
    "--index",
    str(index),
    "--max-tokens",
    "32",
    "--k",
    "3",
)
arms, change = compared["arms"], compared["differences"]["tuned + works - base + works"]
measured = {
    "base": arms["base + works"] | {"rows": compared["rows"]},
    "tuned": arms["tuned + works"],
    "difference": change,
}
use.write_results(
    measured,
    ["contains", "exact_match", "hallucinated"],
    arms={name: arm["contains"] for name, arm in arms.items()},
    retrieval=compared["retrieval"],
)
