"""Only checkpoints written to their end count."""

import os
import signal
import threading

import pytest
from rich.console import Console

from strop.runs import checkpoints
from strop.training.interrupt import Interrupt


def written(folder, step, *, sealed=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"x" * 100)
    if sealed:
        checkpoints.seal(path)
    return path


def test_the_newest_is_the_last_step_that_was_sealed(tmp_path):
    for step in (100, 20, 3):
        written(tmp_path, step)
    written(tmp_path, 200, sealed=False)
    assert checkpoints.newest(tmp_path).name == "checkpoint-100"


def test_a_sealed_checkpoint_with_a_file_cut_short_does_not_count(tmp_path):
    path = written(tmp_path, 5)
    (path / "adapter_model.safetensors").write_bytes(b"x" * 99)
    assert checkpoints.newest(tmp_path) is None


@pytest.mark.parametrize("mark", ["", "[]", "{", "5", '{"adapter_model.safetensors": 100}'])
def test_a_damaged_mark_is_named_and_the_one_before_taken(tmp_path, mark, caplog):
    before, last = written(tmp_path, 5), written(tmp_path, 6)
    (last / checkpoints.MARK).write_text(mark)
    assert checkpoints.newest(tmp_path) == before
    assert f"{last} is damaged: whole.json cannot be read" in caplog.text
    assert checkpoints.whole(tmp_path) == [before]


def test_a_flipped_bit_is_named_and_the_one_before_taken(tmp_path, caplog):
    before, last = written(tmp_path, 5), written(tmp_path, 6)
    (last / "adapter_model.safetensors").write_bytes(b"x" * 99 + b"y")
    assert checkpoints.newest(tmp_path) == before
    assert "adapter_model.safetensors is not what was written" in caplog.text


def test_folders_that_are_no_checkpoints_are_left_alone(tmp_path):
    written(tmp_path, 5)
    for name in ("checkpoint-old", "checkpoint-", "checkpoint-5-copy", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-99").write_text("a file")
    there = sorted(tmp_path.iterdir())
    assert checkpoints.newest(tmp_path).name == "checkpoint-5"
    checkpoints.tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == there


def test_tidying_keeps_the_two_newest_whole_ones(tmp_path):
    for step in (1, 2, 10):
        written(tmp_path, step)
    written(tmp_path, 11, sealed=False)
    checkpoints.tidy(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-10"}


def test_a_folder_that_does_not_exist_holds_no_checkpoint(tmp_path):
    assert checkpoints.newest(tmp_path / "nowhere") is None


def test_the_first_signal_asks_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupt = Interrupt()
    with interrupt.listening(Console(quiet=True)):
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_another_thread_can_train_without_handlers():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def listen():
        with Interrupt().listening(Console(quiet=True)):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
