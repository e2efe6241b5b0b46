"""Output whose reader goes away, with real pipes, terminals and full devices."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from strop.core.errors import UnsupportedError
from strop.core.system.output import ReaderGoneError, lasting_output


@pytest.fixture
def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.fixture
def closed_terminal():
    master, slave = pty.openpty()
    os.close(master)
    with open(slave, "w", encoding="utf-8") as stream:
        yield stream


def full_device():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    return open("/dev/full", "w", encoding="utf-8")


@pytest.mark.parametrize("stream", ["closed_pipe", "closed_terminal"])
def test_progress_without_a_reader_is_dropped(stream, request, monkeypatch):
    monkeypatch.setattr(sys, "stderr", request.getfixturevalue(stream))
    with lasting_output():
        for _ in range(3):
            sys.stderr.write("step 1 of 2\n")
            sys.stderr.flush()


def test_progress_onto_a_full_disk_is_dropped(monkeypatch):
    with full_device() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with lasting_output():
            sys.stderr.write("step 1 of 2\n")
            sys.stderr.flush()


def test_results_to_a_closed_terminal_are_dropped(closed_terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", closed_terminal)
    with lasting_output(results=True):
        sys.stdout.write("run  runs/tone\n")
        sys.stdout.flush()


def test_results_into_a_pipe_without_a_reader_end_the_command(closed_pipe, monkeypatch):
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    with pytest.raises(ReaderGoneError), lasting_output(results=True):
        sys.stdout.write("run  runs/tone\n")


def test_results_that_a_full_disk_does_not_take_are_an_error(monkeypatch):
    with full_device() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(UnsupportedError, match="No space left"), lasting_output(results=True):
            sys.stdout.write("run  runs/tone\n")


def test_a_command_whose_reader_has_enough_ends_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "strop", "train", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + 13, b"")
