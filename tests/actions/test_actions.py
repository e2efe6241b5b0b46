"""The functions behind the commands, called as another face would call them."""

import json
import subprocess
import sys

import pytest

from strop.actions.data import check, show
from strop.actions.train import train
from strop.core.errors import ConfigError
from tests.tiny.saved import QUICK, save_chats

SETTINGS = {name: value for name, value in QUICK.items() if name != "quiet"}


def test_training_reports_every_step_and_returns_plain_values(tmp_path, tiny_model, capsys):
    data = save_chats(tmp_path / "sums.jsonl", 20)
    settings = {
        **SETTINGS,
        "data": str(data),
        "model": str(tiny_model),
    }
    steps = []
    result = train(
        settings | {"out": str(tmp_path / "run")},
        quiet=True,
        progress=lambda stage, done, total: steps.append((stage, done, total)),
    )
    assert steps == [("training", 1, 3), ("training", 2, 3), ("training", 3, 3)]
    assert json.loads(json.dumps(result)) == result
    assert result["finished"]
    assert result["run"] == str(tmp_path / "run")
    assert capsys.readouterr().out == ""


def test_settings_of_a_training_are_refused_all_at_once_before_torch_is_loaded():
    code = (
        "import sys\n"
        "from strop.actions.train import train\n"
        "from strop.core.errors import ConfigError\n"
        "try:\n    train({'data': 'rows.jsonl', 'rank': 0, 'epochs': -1.0})\n"
        "except ConfigError as e:\n    print(e)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rank is 0" in done.stdout
    assert "epochs is -1.0" in done.stdout
    assert done.stdout.endswith("False\n")


def test_a_run_that_does_not_exist_cannot_be_resumed(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        train({}, resume=tmp_path / "run")


def test_data_is_checked_and_shown_as_plain_values(tmp_path, tiny_model):
    file = str(save_chats(tmp_path / "sums.jsonl", 20))
    report = check(file, str(tiny_model), speed=1.0)
    assert json.loads(json.dumps(report)) == report
    assert report["usable"] == 20
    assert report["minutes"] == pytest.approx(report["lengths"]["tokens"] / 60)
    row = show(file, 3, model=str(tiny_model))
    assert row["row"] == 3
    assert {piece["kind"] for piece in row["pieces"]} >= {"supervised", "context"}
