import json
import logging
import subprocess
import sys
import warnings

import pytest
from transformers.utils import logging as transformers_logging

from strop.core.quiet import quiet


def test_bars_are_hidden_inside_and_shown_again_after_an_error():
    assert transformers_logging.is_progress_bar_enabled()
    with quiet():
        with pytest.raises(KeyError):
            fail_quietly()
        assert not transformers_logging.is_progress_bar_enabled()
    with pytest.raises(KeyError):
        fail_quietly()
    assert transformers_logging.is_progress_bar_enabled()


def fail_quietly():
    with quiet():
        assert not transformers_logging.is_progress_bar_enabled()
        raise KeyError


@pytest.mark.parametrize("warn", [True, False])
def test_levels_of_logging_are_as_they_were_and_warnings_of_a_model_are_logged_unless_refused(warn):
    loggers = [logging.getLogger(name) for name in ("transformers", "bitsandbytes")]
    before = [logger.level for logger in loggers]
    with quiet(warn=warn):
        assert not loggers[1].isEnabledFor(logging.WARNING)
        assert loggers[0].isEnabledFor(logging.WARNING) is warn
    assert [logger.level for logger in loggers] == before


def test_only_future_warnings_of_other_libraries_are_hidden():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet():
            for module in ("transformers.trainer", "peft", "strop.models"):
                for kind in (FutureWarning, UserWarning):
                    warnings.warn_explicit(module, kind, "file.py", 1, module=module)
    passed = {(str(w.message), w.category) for w in shown}
    assert passed == {
        ("strop.models", FutureWarning),
        *((module, UserWarning) for module in ("transformers.trainer", "peft", "strop.models")),
    }


@pytest.mark.slow
def test_a_training_in_four_bits_and_its_loading_write_nothing_of_other_libraries(
    tiny_model, tmp_path
):
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(4 * (json.dumps({"messages": turns}) + "\n"))
    code = (
        "import strop\n"
        f"run = strop.train({str(rows)!r}, model={str(tiny_model)!r}, out='run', quiet=True,\n"
        "                  epochs=1, batch_size=2, held_out=0)\n"
        "run.load()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"STROP_CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
