"""A run is one process: what a launcher started several times is refused before anything else."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

import strop
from strop.core import env
from strop.core.errors import UnsupportedError
from strop.core.system.processes import check_single

STROP = str(Path(sys.executable).parent / "strop")
VARIABLES = (*env._SIZES, *env._RANKS)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Begin as a process that no launcher started."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "launched",
    [
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},  # torchrun, accelerate launch
        {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},  # mpirun of Open MPI
        {"PMI_SIZE": "2", "PMI_RANK": "0"},  # mpirun of MPICH
        {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},  # srun
        {"LOCAL_RANK": "1"},
    ],
    ids=lambda launched: next(iter(launched)),
)
def test_one_of_several_processes_is_refused_and_told_what_works(monkeypatch, tmp_path, launched):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnsupportedError, match=r"strop\.train runs in one process.*accelerate"):
        strop.train([], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "launched",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # the script of sbatch itself
        {"OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"},
        {"WORLD_SIZE": "", "RANK": "none"},
    ],
    ids=str,
)
def test_a_process_that_is_alone_may_go_on(monkeypatch, launched):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    check_single("strop train")


@pytest.mark.parametrize("size", [1, 2])
def test_a_process_group_that_was_set_up_by_hand_counts_too(size):
    store = FakeStore()
    distributed.init_process_group("fake", rank=0, world_size=size, store=store)
    try:
        if size == 1:
            check_single("strop.train")
        else:
            with pytest.raises(UnsupportedError, match=r"get_world_size\(\)=2 says"):
                check_single("strop.train")
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("words", [("train", "rows.jsonl"), ("export", "runs/x", "--to", "gguf")])
def test_the_command_line_refuses_before_it_loads_torch(words):
    code = (
        f"import sys; sys.argv = ['strop', *{words!r}]\n"
        "from strop.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules)"
    )
    environment = {"WORLD_SIZE": "2", "RANK": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout == "False\n"
    assert f"strop: strop {words[0]} runs in one process, and WORLD_SIZE=2 says" in done.stderr


def test_help_is_answered_in_any_process():
    environment = {"WORLD_SIZE": "2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([STROP, "train", "--help"], env=environment, capture_output=True)
    assert done.returncode == 0
