"""Tasks of lm-evaluation-harness by name or file, loaded and set up as the harness does it."""

import contextlib
import dataclasses
import difflib
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import TemplateError
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager

from strop.core.errors import ConfigError, DataError, StropError, UnsupportedError
from strop.core.files import reading
from strop.core.progress import Progress, silent
from strop.core.quiet import log_level, no_stderr, without_package

SUFFIXES = (".yaml", ".yml")
"""Of files of tasks."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """Tasks of the harness and how they are asked."""

    names: Sequence[str]
    """Names of tasks, groups and tags, and YAML files of one's own."""
    num_fewshot: int | None = None
    """Examples before each question; None takes what the task says."""
    apply_chat_template: bool = False
    """True to ask in the model's chat template."""
    limit: int | None = None
    """Questions of each task, from its first; None takes all."""
    progress: Progress = silent


def load_tasks(harness: Harness) -> Any:
    """Return the tasks, loaded and set up by the harness.

    Raises:
        ConfigError: a name is unknown; lists all of them.
        DataError: the data of a task cannot be had.
        UnsupportedError: a task needs code from the hub, or asks for more than text.
    """
    harness.progress("reading tasks", 0, 1)
    with no_notices():
        manager = TaskManager(include_defaults=not all(map(_stands_alone, harness.names)))
    if wrong := [_unknown(name, manager) for name in harness.names if not _is_known(name, manager)]:
        raise ConfigError("; ".join(wrong))
    with no_notices(), without_package("evaluate"), named(harness.names), seeded():
        loaded = manager.load([_path(name) for name in harness.names])
    for name, task in loaded["tasks"].items():
        _check(name, task)
        usual = task.get_config("num_fewshot")
        if usual is None or (harness.num_fewshot is not None and usual != 0):
            task.set_config(key="num_fewshot", value=harness.num_fewshot or 0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return loaded


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Seed Python's and NumPy's global generators as the harness does, inside the block alone."""
    states = random.getstate(), np.random.get_state()
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _stands_alone(name: str) -> bool:
    """Return whether a name is a file of one task, which needs none of the harness's own."""
    if not name.endswith(SUFFIXES) or not Path(name).is_file():
        return False
    with reading(Path(name)):
        return "group:" not in Path(name).read_text(encoding="utf-8")


def _path(name: str) -> str:
    """Return a task file's whole path, a name as it is."""
    return str(Path(name).resolve()) if name.endswith(SUFFIXES) else name


def _is_known(name: str, manager: Any) -> bool:
    if name.endswith(SUFFIXES):
        return Path(name).is_file()
    return name in manager.task_index


def _unknown(name: str, manager: Any) -> str:
    if name.endswith(SUFFIXES):
        return f"--tasks {name}: there is no such file"
    near = difflib.get_close_matches(name, manager.all_tasks, 1)
    hint = f"did you mean {near[0]}?" if near else "`lm-eval ls tasks` lists them all"
    return f"--tasks {name} is no task of lm-evaluation-harness; {hint}"


def _check(name: str, task: Any) -> None:
    """Refuse what strop cannot measure.

    Raises:
        UnsupportedError: names the task and why.
    """
    computed = getattr(task, "_metric_fn_list", {})
    process_results = getattr(task.config, "process_results", None) is not None
    if missing := [metric for metric, of in computed.items() if of is None and not process_results]:
        raise UnsupportedError(
            f"{name} wants {', '.join(missing)}, which the harness would load as code from the hub; "
            "strop runs no code from there: take a metric of the harness's own"
        )
    if getattr(task, "UNSAFE_CODE", False):
        raise UnsupportedError(f"{name} runs code that the model writes; strop does not run it")
    if getattr(task, "MULTIMODAL", False):
        raise UnsupportedError(f"{name} shows more than text to the model; take a task of text")


@contextlib.contextmanager
def named(names: Sequence[str]) -> Iterator[None]:
    """Raise what the harness and its loaders raise in a sentence that names the tasks."""
    tasks = ", ".join(names)
    try:
        yield
    except StropError:
        raise
    except (ConnectionError, TimeoutError) as e:
        raise DataError(
            f"--tasks {tasks}: the data of a task is on the hub, and it cannot be reached ({e}); "
            "take a YAML file of a task with data files of your own"
        ) from e
    except ImportError as e:
        raise UnsupportedError(f"--tasks {tasks}: a task needs {e.name or e}; install it") from e
    except (OSError, ValueError, KeyError, AssertionError, yaml.YAMLError, TemplateError) as e:
        raise DataError(f"--tasks {tasks} cannot be measured: {type(e).__name__}: {e}") from e


@contextlib.contextmanager
def no_notices() -> Iterator[None]:
    """Keep bars and notices of the harness from the user."""
    with log_level("lm_eval", logging.CRITICAL), no_stderr():
        yield
