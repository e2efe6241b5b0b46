"""A server writes the day of the run where a chat template writes today's, on real engines."""

import json
from datetime import date

import pytest

import strop
from strop.core.files import write_sealed
from strop.data.encoding.templates import on_day, writes_day
from strop.exporting import export
from strop.serving.engine import Engine
from strop.serving.served import find
from tests.tiny.saved import TEMPLATE, chats, save_model

DATED = "{% if strftime_now is defined %}day {{ strftime_now('%d %b %Y') }} {% endif %}" + TEMPLATE


def test_a_template_is_put_on_a_day_wherever_it_writes_the_date():
    source = (
        """{{ strftime_now("%d %b %Y") }} {{ strftime_now( format='%Y-%m-%d') | upper }} {{ x }}"""
    )
    day = date(1999, 12, 31)
    assert on_day(source, day) == '{{ "31 Dec 1999" }} {{ "1999-12-31" | upper }} {{ x }}'
    assert writes_day(source)
    assert not writes_day(TEMPLATE)
    assert on_day(TEMPLATE, day) == TEMPLATE


@pytest.mark.slow
def test_a_run_is_served_on_its_own_day(tmp_path):
    model = save_model("llama3", tmp_path / "model", max_position_embeddings=512)
    (model / "chat_template.jinja").write_text(DATED)
    settings = {"max_steps": 1, "batch_size": 4, "held_out": 2, "bits": 32, "quiet": True}
    run = strop.train(chats(12), model=str(model), out=tmp_path / "run", **settings)
    record = json.loads((run.path / "run.json").read_text()) | {"day": "1999-12-31"}
    record.pop("sha256")
    write_sealed(run.path / "run.json", record)
    export(strop.Run.open(run.path), "gguf", quant="f16", certified=False)
    (served,) = find([str(run.path)], uncertified=True)
    assert served.day == date(1999, 12, 31)
    engine = Engine(served.file, context=256, slots=1, day=served.day)
    question = {"messages": [{"role": "user", "content": "sea?"}]}
    assert engine._read("/apply-template", question)["prompt"].startswith(
        "day 31 Dec 1999 <|start|>"
    )
    assert list(engine.reply(question["messages"], max_tokens=2))
    engine.close()
