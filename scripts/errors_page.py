"""Write docs/reference/errors.md from the classes of errors."""

from pathlib import Path

from wrap import write_page

from strop.cli.commands.train import DIVERGED
from strop.core import errors

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "errors.md"
HEAD = """# Errors

Everything that strop raises on purpose is a `strop.core.errors.StropError`; anything else that
escapes is a bug. A message names the thing, the value that was seen and what to do instead, and
lists all faults at once. On the command line it is one message on standard error; with `--json`
standard output holds `{"error": "..."}` (a diverged training also `"diverged"`). Hints name flags on
the command line and arguments in Python. (`make pages` writes this page from the classes.)

"""
TAIL = """
Most messages come before anything is loaded: settings, rows, memory and the disk are looked at first.
What a training shows while it runs (a flat loss, rewards that are all alike) is no error but a finding
of the [run doctor](../runs.md#the-run-doctor); errors in rows have kinds of their own
([data](../data.md)); what a server answers is in [serving](../serving.md).
"""


def page() -> str:
    """Return the page as it should be."""
    rows = [
        f"| `{name}` | {', '.join(f'`{base.__name__}`' for base in kind.__bases__)} | "
        f"{(kind.__doc__ or '').strip()} | {DIVERGED if kind is errors.DivergedError else 1} |"
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.StropError)
    ]
    head = ["| class | is also | what | exit code |", "|---|---|---|---|"]
    return HEAD + "\n".join([*head, *rows]) + "\n" + TAIL


if __name__ == "__main__":
    write_page(PAGE, page())
