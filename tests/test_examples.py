"""The examples run, and show what they claim to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def losses(script: str, *args: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(loss) for loss in re.findall(r"^step \d+: loss (\S+)$", done.stdout, re.M)]


def test_a_trl_script_needs_one_import_and_one_line():
    lines = (EXAMPLES / "trl_script.py").read_text(encoding="utf-8").partition('"""\n\n')[2]
    uses = [line.strip() for line in lines.splitlines() if re.search(r"\bstrop\b[^\"]*$", line)]
    assert uses == ["import strop", "strop.accelerate(trainer)"]


@pytest.mark.slow
def test_the_line_leaves_every_loss_of_a_trl_script_as_it_was(tiny_model: Path):
    accelerated = losses("trl_script.py", str(tiny_model))
    plain = losses("trl_script.py", str(tiny_model), "--plain")
    assert len(plain) == 6
    assert accelerated == pytest.approx(plain, rel=1e-4)
