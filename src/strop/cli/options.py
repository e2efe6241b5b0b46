"""Options and arguments that several commands have."""

from typing import Annotated

import typer

from strop.cli.flags import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Target = Annotated[
    str,
    typer.Argument(metavar="RUN|MODEL", help="A run folder, a packaged model, a folder or a name."),
]
Uncertified = Annotated[
    bool,
    typer.Option("--uncertified", help="Take an export whose certificate failed or is missing."),
]
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
    typer.Option(help="Text before each row of text,label data, instead of the usual one."),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of text files, as cp1250. Default: UTF-8, or what Excel writes."),
]


def columns(
    names: str | None, ignored: str | None, instruction: str | None, encoding: str | None = None
) -> dict[str, str | None]:
    """Return the settings that say how the columns of a file are read.

    Raises:
        UsageError: the names are not of the form of a mapping, or the encoding is not known.
    """
    from strop.data.reading.columns import mapping_fault
    from strop.data.reading.encodings import encoding_fault

    faults = list(mapping_fault(names))
    if encoding is not None and (unknown := encoding_fault(encoding)):
        faults.append(unknown)
    for fault in faults:
        raise UsageError(f"--{fault}")
    return {
        "map": names,
        "ignore_columns": ignored,
        "instruction": instruction,
        "encoding": encoding,
    }
