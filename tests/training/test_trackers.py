"""What a tracker gets is what the run's log has, and nothing is reported unless a tracker is named."""

import shutil
import subprocess
import sys

import pytest

import strop
from strop.core.errors import ConfigError, MissingPackageError
from strop.planning.argument_tables import TRACKERS
from strop.planning.settings import Settings
from strop.runs.run import Run
from tests.tiny.saved import QUICK, sums

SETTINGS = QUICK | {"bits": 32, "eval_every": 1, "eval_metrics": "chrf", "save_every": 1}
OF_STEPS = {
    "train/loss": "loss",
    "train/learning_rate": "learning_rate",
    "train/grad_norm": "grad_norm",
    "train/memory": "memory",
}
OF_EVALUATIONS = {
    "eval/loss": "held_out_loss",
    "eval/chrf": "eval_chrf",
    "eval/metrics_rows": "metrics_rows",
}
"""Names of trackers, and those of log.jsonl."""


def logged(run: Run, name: str) -> dict[int, float]:
    return {line["step"]: line[name] for line in run.log if name in line}


def scalars(run: Run) -> dict[str, dict[int, float]]:
    """Return what TensorBoard's own reader finds in a run's folder: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def assert_tensorboard_has_the_log(run: Run) -> None:
    values = scalars(run)
    for tag, name in (OF_STEPS | OF_EVALUATIONS).items():
        in_log = logged(run, name)
        assert in_log
        assert values[tag] == pytest.approx(in_log, rel=1e-6), tag


@pytest.fixture(scope="module")
def reported(tmp_path_factory, tiny_model):
    out = tmp_path_factory.mktemp("reported") / "run"
    return strop.train(sums(20), model=tiny_model, out=out, report_to="tensorboard", **SETTINGS)


def test_tensorboard_has_every_number_of_the_log(reported):
    assert_tensorboard_has_the_log(reported)


def test_what_a_resumed_run_repeats_is_in_tensorboard_once(reported, tmp_path):
    killed = Run(shutil.copytree(reported.path, tmp_path / "run"))
    shutil.rmtree(killed.adapter_folder)
    shutil.rmtree(killed.checkpoints_folder / "checkpoint-3")
    killed.update(status="running")
    run = strop.train(sums(20), resume=killed.path, quiet=True)
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    assert_tensorboard_has_the_log(run)


def test_nothing_is_reported_by_default(tmp_path, tiny_model):
    run = strop.train(sums(20), model=tiny_model, out=tmp_path / "run", **SETTINGS)
    assert not (run.path / "tensorboard").exists()


TRACKIO = """
import sys, socket
def refuse(*args): raise AssertionError("an address was looked up")
socket.getaddrinfo = refuse
import strop
from trackio.sqlite_storage import SQLiteStorage
from tests.training.test_trackers import OF_EVALUATIONS, OF_STEPS, SETTINGS, logged, sums
run = strop.train(sums(20), model=sys.argv[1], out=sys.argv[2], report_to="trackio",
                  trainer={"project": "sums"}, **SETTINGS)
(name,) = SQLiteStorage.get_runs("sums")
rows = SQLiteStorage.get_logs("sums", name)
for tag, of_log in (OF_STEPS | OF_EVALUATIONS).items():
    values = {row["train/global_step"]: row[tag] for row in rows if tag in row}
    assert values == logged(run, of_log), tag
"""


@pytest.mark.slow
def test_trackio_has_every_number_of_the_log_without_a_network(tmp_path, tiny_model):
    import os

    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRACKIO, tiny_model, tmp_path / "run"],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},  # noqa: TID251
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr


def test_a_missing_package_is_named_with_its_install_line_before_anything_is_loaded(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(TRACKERS, "wandb", (("strop_absent",), "wandb"))
    monkeypatch.setitem(TRACKERS, "mlflow", (("strop_absent",), "mlflow"))
    with pytest.raises(MissingPackageError) as caught:
        strop.train(sums(4), out=tmp_path / "run", report_to="wandb,mlflow,tensorboard")
    assert str(caught.value).splitlines() == [
        "report_to is wandb, which is not installed: pip install wandb",
        "report_to is mlflow, which is not installed: pip install mlflow",
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"report_to": "tensorbord"}, "did you mean tensorboard"),
        ({"report_to": "all"}, "known: tensorboard"),
        ({"trainer": {"trackio_space_id": "me/runs"}}, "no effect without report_to"),
        ({"trainer": {"report_to": "wandb"}}, "use the setting report_to"),
    ],
    ids=str,
)
def test_what_no_tracker_can_do_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Settings.read(settings)


def test_every_tracker_is_one_of_transformers():
    from transformers.integrations import get_reporting_integration_callbacks

    assert len(get_reporting_integration_callbacks(list(TRACKERS))) == len(TRACKERS)
