"""Commands that take every declared setting as a flag and report all wrong flags at once."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from strop.cli.flags import UsageError, joined, wrong_flags
from strop.core.errors import flag
from strop.core.system.processes import check_single
from strop.planning.settings import described

SHORT = {"lora_init": ("--init",)}
"""Second names of flags."""


class Command(TyperCommand):
    """Command that reports all flags that are unknown or given twice at once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            UsageError: lists the wrong flags.
        """
        args = joined(args)
        known = {
            name: not getattr(option, "is_flag", False)
            for option in self.get_params(ctx)
            for name in (*option.opts, *option.secondary_opts)
        }
        several = [
            name for option in self.get_params(ctx) if option.multiple for name in option.opts
        ]
        if wrong := wrong_flags(args, known, several):
            raise UsageError("\n  ".join(["the command line cannot be used:", *wrong]))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, in one process only, except `doctor`, which changes nothing.

        Raises:
            UnsupportedError: a launcher started several.
        """
        if self.name != "doctor":
            check_single(ctx.command_path)
        return super().invoke(ctx)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per setting of a run.

    The command receives as keyword arguments those that were given, as text: numbers are read
    later, all together, so that every fault is named at once. A setting for which the command
    has an option of its own is left out.
    """
    parameters = list(inspect.signature(command).parameters.values())
    fixed = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    names = {p.name for p in fixed}
    added = [_option(name, *what) for name, what in described().items() if name not in names]

    @functools.wraps(command)
    def called(**values: Any) -> None:
        given = {p.name: values.pop(p.name) for p in added}
        command(**values, **{name: value for name, value in given.items() if value is not None})

    called.__signature__ = inspect.Signature([*fixed, *added])  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in (*fixed, *added)}
    return called


def _option(name: str, hint: Any, default: Any, doc: str) -> inspect.Parameter:
    """Return the option of one setting."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    known = "" if len(choices) < 2 else f" One of {', '.join(map(str, choices))}."
    usual = "" if default in (None, "", {}) else f" Default: {_plain(default)}."
    option = typer.Option(
        flag(name),
        *SHORT.get(name, ()),
        help=f"{doc}{known}{usual}",
        metavar=f"<{_metavar(hint)}>",
        rich_help_panel="Settings",
    )
    kind = Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _plain(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metavar(hint: Any) -> str:
    """Name a type as the help shows it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = {_metavar(kind) for kind in typing.get_args(hint) if kind is not type(None)}
        return kinds.pop() if len(kinds) == 1 else "float" if "float" in kinds else "str"
    if typing.get_origin(hint) is typing.Literal:
        return "str"
    return {int: "int", float: "float", str: "str", bool: "bool"}.get(hint, "yaml")
