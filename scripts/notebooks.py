"""Write the notebooks from their sources, and run them.

    python scripts/notebooks.py                    # write notebooks/*.ipynb
    python scripts/notebooks.py --execute sft dpo  # run these too, and keep what they show
    python scripts/notebooks.py --test             # run all, and write nothing

A source is a script in jupytext's percent format: one for each task, and one for all families of
models, a row of `FAMILIES` each. `# include FILE` puts in a part that several share, `{{name}}` a value.
A notebook's outputs are kept as long as its code is what made them.
"""

import argparse
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from fetch import VADER
from wrap import wrapped

from strop.models.packaged import PACKAGED

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = NOTEBOOKS / "sources"
SMALLEST = "smollm2-135m-instruct"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
INCLUDE = re.compile(r"^# include (\S+)$", re.MULTILINE)
SILENT = "no-output"
"""Tag of cells whose outputs say nothing that lasts: installations, progress."""
LONGEST = 900
"""Seconds that one cell may take."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models, for the notebook that all families share."""

    title: str
    model: str
    """On the hub."""
    bits: int
    template: str
    """Name of its chat template in strop."""
    note: str
    template_note: str
    stand_in: str = SMALLEST
    alike: str = ""
    """In what the stand-in is like it."""


GATED = (
    "Its weights are on the Hugging Face hub for those who accepted its licence there: "
    "`hf auth login` first."
)
FREE = "Its weights are on the Hugging Face hub without an account."
SHOWN = (
    "This is how {0} writes the question before it answers; strop takes each model's own template."
)
FAMILIES = {
    "llama-3": Family(
        "Llama 3.2 1B",
        "meta-llama/Llama-3.2-1B-Instruct",
        16,
        "llama3_1",
        f"{GATED} Llama 3.1 8B is `meta-llama/Llama-3.1-8B-Instruct`, with 4 bits.",
        SHOWN.format("Llama 3"),
        alike=" and are of the Llama architecture",
    ),
    "mistral": Family(
        "Mistral 7B",
        "mistralai/Mistral-7B-Instruct-v0.3",
        4,
        "mistral_v3",
        FREE + " Seven billion weights in 4 bits need about 6 GB.",
        SHOWN.format("Mistral"),
    ),
    "phi-4": Family(
        "Phi-4",
        "microsoft/phi-4",
        4,
        "phi4",
        FREE + " Fifteen billion weights in 4 bits need about 11 GB.",
        SHOWN.format("Phi-4"),
    ),
    "gemma-2": Family(
        "Gemma 2 2B",
        "google/gemma-2-2b-it",
        4,
        "gemma",
        GATED,
        SHOWN.format("Gemma 2") + " Gemma has no system message: strop refuses rows with one.",
        "gemma-3-270m",
        " and are of the next generation, Gemma 3",
    ),
    "gemma-3": Family(
        "Gemma 3 1B",
        "google/gemma-3-1b-it",
        16,
        "gemma",
        GATED,
        SHOWN.format("Gemma"),
        "gemma-3-270m",
        " and are of the same architecture",
    ),
    "qwen-2.5": Family(
        "Qwen 2.5 0.5B",
        "Qwen/Qwen2.5-0.5B-Instruct",
        16,
        "qwen2_5",
        FREE + " `Qwen/Qwen2.5-7B-Instruct` is the same with 4 bits.",
        SHOWN.format("Qwen 2.5"),
        "qwen2.5-coder-0.5b-instruct",
        " and are of the same size and architecture, trained on code",
    ),
    "qwen-3": Family(
        "Qwen 3 0.6B",
        "Qwen/Qwen3-0.6B",
        16,
        "qwen3",
        FREE + " `Qwen/Qwen3-8B` is the same with 4 bits.",
        SHOWN.format("Qwen 3")
        + " Its reasoning, where a row has some, stands between `<think>` tags.",
    ),
}


LISTING = """# Notebooks

Each runs from top to bottom on Colab's or Kaggle's free machine, with or without a GPU, and on a laptop;
the outputs in them were made on one core of a processor, in a minute or a few each. Upload one there, or
open it here with Jupyter. Their first cell installs what they need.

## Tasks

{tasks}

## Families of models

{families}

`make notebooks` writes them from `sources/`, `make test-notebooks` runs them all.
"""
EXTRAS = {"retrieval": '"strop[rag]"', "knowledge": '"strop[rag]"', "export": '"strop[gguf]"'}
"""strop with what a task's notebook needs of its extras."""


def names() -> list[str]:
    """Return the names of all notebooks."""
    tasks = sorted(path.stem for path in SOURCES.glob("*.py") if path.stem != "family")
    return [*FAMILIES, *tasks]


def written(name: str) -> Any:
    """Return a notebook as its source says, without outputs."""
    family = FAMILIES.get(name)
    source = SOURCES / ("family.py" if family else f"{name}.py")
    text = INCLUDE.sub(
        lambda match: (SOURCES / match[1]).read_text(encoding="utf-8"),
        source.read_text(encoding="utf-8"),
    )
    for key, value in values(name).items():
        text = text.replace(f"{{{{{key}}}}}", str(value))
    if left := re.findall(r"\{\{\w+\}\}", text):
        raise ValueError(f"{source} has {', '.join(left)}, which no value fills")
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    return notebook


def values(name: str) -> dict[str, object]:
    """Return what stands for each `{{name}}` in the source of a notebook."""
    family = FAMILIES.get(name)
    of_family = asdict(family) if family else {"stand_in": SMALLEST}
    return of_family | {
        "strop": EXTRAS.get(name, "strop"),
        "requirements": " ".join(PACKAGED[of_family["stand_in"]].requirements),
        "news_requirement": VADER.requirement,
        "news_sha256": VADER.sha256,
        "train_rows": 112,
        "test_rows": 60,
    }


def listing() -> str:
    """Return the page that lists the notebooks."""
    families, tasks = (
        "\n".join(
            f"- [{title(name)}]({name}.ipynb){'' if shown(name) else ', without outputs yet'}"
            for name in names()
            if (name in FAMILIES) is of
        )
        for of in (True, False)
    )
    return wrapped(LISTING.format(families=families, tasks=tasks))


def shown(name: str) -> bool:
    """Return whether a notebook on file has outputs."""
    on_file = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return any(cell.get("outputs") for cell in on_file.cells)


def title(name: str) -> str:
    """Return the heading of a notebook."""
    return str(written(name).cells[0].source.partition("\n")[0].removeprefix("# "))


def code(notebook: Any) -> list[str]:
    """Return the text of each cell of code."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def with_outputs(notebook: Any, path: Path) -> Any:
    """Return a notebook with the outputs that are on file, if the same code made them."""
    if path.is_file():
        on_file = nbformat.read(path, as_version=4)
        if code(on_file) == code(notebook):
            old = [cell for cell in on_file.cells if cell.cell_type == "code"]
            new = [cell for cell in notebook.cells if cell.cell_type == "code"]
            for cell, source in zip(new, old, strict=True):
                cell.outputs, cell.execution_count = source.outputs, source.execution_count
    return notebook


def executed(notebook: Any) -> Any:
    """Return a notebook that was run in an empty folder, with the outputs that last.

    Raises:
        CellExecutionError: a cell raised; the text has which and why.
    """
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory(prefix="strop-notebook-") as folder:
        NotebookClient(
            notebook,
            timeout=LONGEST,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [] if SILENT in cell.metadata.get("tags", ()) else lasting(cell.outputs)
    return notebook


def lasting(outputs: list[Any]) -> list[Any]:
    """Return outputs without what went to standard error: progress, with times."""
    return [output for output in outputs if output.get("name") != "stderr"]


def main() -> None:
    """Write or run notebooks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--execute", action="store_true", help="run them and keep what they show")
    action.add_argument("--test", action="store_true", help="run them and write nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names()):
        parser.error(f"{', '.join(sorted(unknown))} not known; choose from {', '.join(names())}")
    for name in options.names or names():
        path, notebook = NOTEBOOKS / f"{name}.ipynb", written(name)
        notebook = (
            executed(notebook) if options.execute or options.test else with_outputs(notebook, path)
        )
        if not options.test:
            nbformat.write(notebook, path)
        print(f"{name}: {'runs' if options.test else path}", flush=True)
    if not options.test:
        (NOTEBOOKS / "README.md").write_text(listing(), encoding="utf-8")


if __name__ == "__main__":
    main()
