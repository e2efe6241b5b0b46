"""Templates that write the date write the day on which their run began, however long it lives."""

import json
import time
from datetime import date

import pytest

from strop.core.errors import DataError
from strop.data.encoding.chat import chat_text
from strop.models.loading import load_tokenizer
from strop.training import train
from tests.tiny.saved import sums

QUICK = {"max_steps": 2, "save_every": 1, "batch_size": 4, "held_out": 2, "bits": 16, "quiet": True}
WEST, EAST = "Etc/GMT+12", "Etc/GMT-14"
"""Zones that are 26 hours apart, so that they never have the same date."""
DATED = (
    "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def zone(monkeypatch):
    def move(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.mark.slow
def test_a_run_goes_on_and_is_rendered_with_the_day_it_began(tiny_model, tmp_path, zone):
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = DATED
    zone(WEST)
    begun = date.today()
    rows = sums(12)
    run = train(rows, model=str(tiny_model), tokenizer=tokenizer, out=tmp_path / "run", **QUICK)
    assert json.loads((run.path / "run.json").read_text())["day"] == begun.isoformat()
    adapter = (run.path / "adapter" / "adapter_model.safetensors").read_bytes()
    zone(EAST)
    assert date.today() != begun
    shown = chat_text(run.assets().tokenizer, [{"role": "user", "content": "?"}])
    assert shown.startswith(begun.strftime("%d %b %Y "))
    run.update(status="interrupted")
    resumed = train(rows, resume=run.path, quiet=True)
    assert (resumed.path / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    run.update(status="interrupted", day=date.today().isoformat())
    with pytest.raises(DataError, match="no longer gives the tokens"):
        train(rows, resume=run.path, quiet=True)
