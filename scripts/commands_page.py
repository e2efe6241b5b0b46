"""Write docs/reference/commands.md from the help of each command."""

from pathlib import Path
from typing import Any

import typer
from wrap import write_page

from strop.cli.app import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "commands.md"
HEAD = """# Command line

`strop COMMAND --help` says the same, with an example. (`make pages` writes this page from the help of
each command.) Every command takes `--json`, which prints one JSON object and nothing else, and `--help`;
`strop --install-completion` lets the shell complete them.

| exit code | means |
|---|---|
| 0 | done |
| 1 | an error, one message on standard error ([errors](errors.md)) |
| 2 | the command line cannot be used: every wrong flag is named |
| 3 | the training diverged |
| 130 | interrupted; a training can be resumed |
| 141 | the reader of a pipe has gone |

"""
EVERYWHERE = ("--json", "--help")
"""Flags that the head of the page explains."""


def page() -> str:
    """Return the page as it should be."""
    commands = leaves("strop", typer.main.get_command(app))
    toc = [f"| [`{name}`](#{name.replace(' ', '-')}) | {first(c)} |" for name, c in commands]
    sections = [section(name, command) for name, command in commands]
    return HEAD + "\n".join(["| command | does |", "|---|---|", *toc, "", *sections])


def leaves(prefix: str, command: Any) -> list[tuple[str, Any]]:
    """Return the commands below one, with the words that call them."""
    if not hasattr(command, "commands"):
        return [(prefix, command)]
    return [leaf for name, c in command.commands.items() for leaf in leaves(f"{prefix} {name}", c)]


def first(command: Any) -> str:
    """Return the first paragraph of a command's help, in one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def section(name: str, command: Any) -> str:
    """Return what the page says of one command."""
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [
        p for p in command.params if p.opts[0].startswith("-") and p.opts[0] not in EVERYWHERE
    ]
    settings = [p for p in options if p.rich_help_panel == "Settings"]
    listed = [p for p in (*arguments, *options) if p not in settings]
    usage = " ".join(
        [name, *(("{}" if p.required else "[{}]").format(called(p)) for p in arguments)]
    )
    lines = [f"## {name}", "", f"`{usage} [OPTIONS]`", "", command.help or ""]
    if listed:
        lines += ["", "| | |", "|---|---|", *(row(p) for p in listed)]
    if settings:
        count = "every setting" if len(settings) > 40 else f"{len(settings)} settings"
        lines += ["", f"And {count} of a run as a flag ([settings](../settings.md))."]
    if command.epilog:
        lines += ["", f"{command.epilog.partition(': ')[0]}: `{command.epilog.partition(': ')[2]}`"]
    return "\n".join(lines) + "\n"


def called(parameter: Any) -> str:
    """Return an argument as usage lines call it."""
    name = parameter.metavar or parameter.name.upper()
    return str(name).strip("[]").replace("|", " or ")


def row(parameter: Any) -> str:
    """Return the row of one argument or option."""
    names = [called(parameter)] if not parameter.opts[0].startswith("-") else parameter.opts
    default = parameter.default
    plain = (
        isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    )
    shown = f" Default: `{default}`." if plain else ""
    text = (parameter.help or "").replace("|", "\\|").replace("<", "&lt;").rstrip()
    needed = " Required." if parameter.required else ""
    return f"| {', '.join(f'`{name}`' for name in names)} | {text}{shown}{needed} |"


if __name__ == "__main__":
    write_page(PAGE, page())
