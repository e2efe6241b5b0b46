"""The options that say how the columns of a file are read."""

from typing import TYPE_CHECKING, Annotated

import typer

from strop.cli.flags import UsageError

if TYPE_CHECKING:
    from strop.data.reading.columns import Columns

Names = Annotated[
    str | None,
    typer.Option("--map", help="Columns by other names: question=prompt,reply=completion."),
]
Ignored = Annotated[
    str | None,
    typer.Option("--ignore-columns", help="Columns to read the data without: source,notes."),
]
Instruction = Annotated[
    str | None,
    typer.Option(help="What stands before each text of text,label rows, in place of the usual."),
]


def as_given(names: str | None, ignored: str | None, instruction: str | None) -> "Columns":
    """Return how the options say that columns are read.

    Raises:
        UsageError: the names are not of the form of a mapping.
    """
    from strop.data.reading.columns import columns_of, mapping_fault

    for fault in mapping_fault(names):
        raise UsageError(f"--{fault}")
    return columns_of({"map": names, "ignore_columns": ignored, "instruction": instruction})
