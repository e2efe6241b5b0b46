"""One run, one owner: real processes that start at once, and folders that are in use."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from strop.core.errors import ConfigError
from strop.runs.owner import Owner
from strop.runs.run import Run
from strop.training import train
from tests.tiny.saved import save_chats, sums

QUICK = {"max_steps": 2, "batch_size": 4, "held_out": 0, "bits": 32, "quiet": True}
TRAIN = """
import json, sys, strop
from strop.core.errors import StropError
data, model, seed, steps = sys.argv[1:5]
print("ready", flush=True)
sys.stdin.readline()
try:
    run = strop.train(
        data, model=model, seed=int(seed), max_steps=int(steps), batch_size=4, held_out=0, bits=32,
        quiet=True, **json.loads(sys.argv[5]),
    )
    print(json.dumps({"run": str(run.path)}))
except StropError as e:
    print(json.dumps({"error": str(e)}))
"""


def start(folder, data, model, seed=0, steps=2, **given):
    words = [str(data), str(model), str(seed), str(steps), json.dumps(given)]
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, *words],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def answers(processes):
    """Let processes begin at once and return what they print."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


@pytest.mark.slow
def test_two_that_start_at_once_take_folders_of_their_own(tmp_path, tiny_model):
    data = save_chats(tmp_path / "rows.jsonl", 12)
    both = answers([start(tmp_path, data, tiny_model, seed) for seed in (0, 7)])
    assert {answer["run"] for answer in both} == {"runs/rows-1", "runs/rows-2"}
    for answer in both:
        record = json.loads((tmp_path / answer["run"] / "run.json").read_text())
        assert record["status"] == "finished"


@pytest.mark.slow
def test_of_two_in_one_folder_one_trains_and_the_other_is_told(tmp_path, tiny_model):
    data = save_chats(tmp_path / "rows.jsonl", 12)
    both = answers([start(tmp_path, data, tiny_model, seed, out="run") for seed in (0, 7)])
    (trained,) = [i for i, answer in enumerate(both) if "run" in answer]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["seed"] == (0, 7)[trained]
    assert "another process trains in run" in both[1 - trained]["error"] or (
        "already holds a run" in both[1 - trained]["error"]
    )


def test_a_run_that_is_trained_is_not_resumed_beside(tmp_path, tiny_model):
    rows = sums(12)
    run = train(rows, model=tiny_model, out=tmp_path / "run", save_every=1, **QUICK)
    run.update(status="interrupted")
    owner = Owner(run.path)
    with pytest.raises(ConfigError, match="another process trains in"):
        train(rows, resume=run.path, quiet=True)
    with pytest.raises(ConfigError, match="another process trains in"):
        train(rows, model=tiny_model, out=run.path, overwrite=True, **QUICK)
    owner.release()
    assert train(rows, resume=run.path, quiet=True).finished


@pytest.mark.slow
def test_a_folder_is_taken_again_after_its_owner_was_killed(tmp_path, tiny_model):
    data = save_chats(tmp_path / "rows.jsonl", 12)
    killed = start(tmp_path, data, tiny_model, steps=100_000, out="run")
    killed.stdout.readline()
    killed.stdin.write("\n")
    killed.stdin.flush()
    log = tmp_path / "run" / "log.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (answer,) = answers([start(tmp_path, data, tiny_model, out="run")])
    assert "already holds a run" in answer["error"]
    (answer,) = answers([start(tmp_path, data, tiny_model, out="run", overwrite=True)])
    assert answer == {"run": "run"}


def test_a_run_without_a_step_is_free_for_the_next_try(tmp_path, tiny_model):
    run = train(sums(12), model=tiny_model, out=tmp_path / "run", **QUICK)
    (run.path / "notes.txt").write_text("mine")
    run.update(status="running")
    run.log_file.write_text("")
    shutil.rmtree(run.checkpoints_folder)
    again = train(sums(12), model=tiny_model, out=tmp_path / "run", **QUICK)
    assert again.finished
    assert (run.path / "notes.txt").read_text() == "mine"


def test_what_was_refused_leaves_no_folder(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match="target_modules"):
        train(sums(8), model=tiny_model, out=tmp_path / "run", target_modules="no_such", **QUICK)
    assert not (tmp_path / "run").exists()


def test_overwrite_and_resume_exclude_one_another(tmp_path):
    with pytest.raises(ConfigError, match="exclude one another"):
        train(resume=tmp_path, overwrite=True)


def test_a_run_that_is_begun_anew_leaves_nothing_half_written(tmp_path):
    run = Run(tmp_path)
    run.record_file.write_text("{}")
    scratch = tmp_path / ".model_assets-3ykq"  # as a process leaves it that was killed as it wrote
    (scratch / "model_assets").mkdir(parents=True)
    (scratch / "writer.lock").touch()
    (tmp_path / "notes.txt").write_text("mine")
    run.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
