"""The format to compute in: timed once a machine, whoever asks, and remembered."""

import subprocess
import sys

import pytest
import torch

from strop.core.files import read_cached, write_cached
from strop.models.dtype import compute_dtype

ASK = "from strop.models.dtype import compute_dtype; print(compute_dtype('cpu'))"


def answers(cache, processes=1):
    environment = {"STROP_CACHE": str(cache), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    return [process.communicate(timeout=120)[0].strip() for process in started]


def test_the_choice_is_remembered_and_not_timed_again(tmp_path):
    (first,) = answers(tmp_path)
    (file,) = (tmp_path / "compute_dtype").glob("*.json")
    assert read_cached(file) == {"dtype": first.removeprefix("torch.")}
    other = "float32" if first == "torch.bfloat16" else "bfloat16"
    write_cached(file, {"dtype": other})
    assert answers(tmp_path) == [f"torch.{other}"]


def test_processes_that_start_at_once_choose_the_same(tmp_path):
    assert len(set(answers(tmp_path, processes=3))) == 1


@pytest.mark.parametrize("text", ["", "[", '{"dtype": "float32"}', "[]"])
def test_a_damaged_memory_is_timed_again(tmp_path, text):
    answers(tmp_path)
    (file,) = (tmp_path / "compute_dtype").glob("*.json")
    file.write_text(text)
    (second,) = answers(tmp_path)
    assert read_cached(file) == {"dtype": second.removeprefix("torch.")}


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("")
    assert answers(tmp_path / "file")[0] in ("torch.float32", "torch.bfloat16")


def test_a_device_that_cannot_be_timed_computes_in_float32():
    assert compute_dtype("meta") == torch.float32
