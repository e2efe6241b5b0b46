"""The examples run, and show what they claim to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import examples_page

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


def test_every_example_has_a_page_a_command_and_what_was_measured():
    assert {page.parent.name for page in EXAMPLES.glob("*/README.md")} == set(examples_page.USES)
    for page, text in examples_page.examples().items():
        assert page.read_text(encoding="utf-8") == text, "run: make pages"
        script = examples_page.command(page.parent.name)
        assert (EXAMPLES.parent / script.split()[0]).is_file()
        assert f"python {script}\n" in text
