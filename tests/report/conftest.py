"""Two runs with evaluations on hostile rows, whose pages are looked at."""

import json
import shutil

import pytest

import strop
from strop.evaluation import Metrics, compare
from tests.report.pages import Page
from tests.tiny.saved import save_tiny_llama

TONES = ("good", "bad", '<script>alert("tone")</script>')
HOSTILE = (
    "<script>fetch('https://example.org/stolen')</script>",
    "<img src=https://example.org/x.png onerror=alert(1)>",
    '"><style>*{display:none}</style>&amp;{{ 7 * 7 }}',
    "\x1b[31mred\u202egnp.exe\x00",
    "مرحبا بالعالم 你好，世界",
)


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """Train two tiny models on labels, and evaluate both on the rows that they held out."""
    folder = tmp_path_factory.mktemp("pages")
    rows = [
        {"prompt": f"tone of {i}: {HOSTILE[i % 5]}", "completion": TONES[i % 3]} for i in range(45)
    ]
    data = folder / "<b>rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = save_tiny_llama(folder / "model")
    options = {"bits": 32, "batch_size": 8, "held_out": 15, "quiet": True}
    runs = []
    for name, rate in (("first", 1e-2), ("second", 3e-3)):
        run = strop.train(
            str(data),
            model=str(model),
            out=folder / name,
            max_steps=4,
            learning_rate=rate,
            eval_every=2,
            **options,
        )
        compare(run, metrics=Metrics(forgetting=False))
        runs.append(run)
    return runs


@pytest.fixture(scope="session")
def page(compared):
    return Page(compared[0].report.read_text(encoding="utf-8"))


@pytest.fixture
def copied(compared, tmp_path):
    """A copy of the first run, to change."""
    shutil.copytree(compared[0].path, tmp_path / "run")
    return strop.Run.open(tmp_path / "run")
