"""The notebooks are what their sources say, and what they show was made by the code in them."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import notebooks

ROOT = Path(__file__).parents[1]

MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|Users|work|mnt|tmp)/\w")


def on_file(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_there_is_no_other_notebook_and_all_are_listed():
    assert (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8") == notebooks.listing()
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(notebooks.names())


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebook_is_what_its_source_says(name):
    cells = [(c.cell_type, c.id, c.source, c.metadata) for c in on_file(name).cells]
    source = [(c.cell_type, c.id, c.source, c.metadata) for c in notebooks.written(name).cells]
    assert cells == source, "run: make notebooks"


@pytest.mark.parametrize("name", notebooks.names())
def test_what_a_notebook_shows_has_a_picture_and_nothing_of_one_machine(name):
    notebook = on_file(name)
    nbformat.validate(notebook)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    listed = " ".join((ROOT / "notebooks" / "README.md").read_text(encoding="utf-8").split())
    without = f"({name}.ipynb), without outputs yet" in listed
    assert without is not any("image/png" in output.get("data", {}) for output in outputs), (
        f"run: python scripts/notebooks.py --execute {name}"
    )
    assert all(output.output_type != "error" for output in outputs)
    texts = [output.get("text") or output.data.get("text/plain", "") for output in outputs]
    assert not [text for text in texts if MACHINE_PATH.search(text)]


def test_outputs_of_other_code_are_dropped(tmp_path):
    file = tmp_path / "sft.ipynb"
    notebook = on_file("sft")
    nbformat.write(notebook, file)
    assert notebooks.with_outputs(notebooks.written("sft"), file) == notebook
    changed = notebooks.written("sft")
    changed.cells[-1] = nbformat.v4.new_code_cell("1 + 1")
    assert not any(c.get("outputs") for c in notebooks.with_outputs(changed, file).cells)


def test_every_value_of_a_source_is_filled():
    for name in notebooks.names():
        assert "{{" not in "".join(cell.source for cell in notebooks.written(name).cells)
