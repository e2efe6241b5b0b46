"""Names that can be served, and what serving needs, checked before anything heavy is imported."""

import importlib.util

from strop.core.errors import ConfigError, MissingPackageError
from strop.core.files import expanded
from strop.models.packaged import PACKAGED, nearest
from strop.runs.run import Run


def check_installed(*names: str) -> None:
    """Refuse to serve without the packages of the extra `serve`, or those named.

    Raises:
        MissingPackageError: one is not installed; the text has the command.
    """
    needed = names or ("xllamacpp", "aiohttp", "pydantic")
    if absent := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingPackageError(
            f'this needs {", ".join(absent)}; run: pip install "strop[serve]"'
        )


def check_target(name: str) -> None:
    """Raise ConfigError if a name is neither a run folder nor a GGUF file nor a packaged model."""
    path = expanded(name)
    if Run.is_at(path) or name in PACKAGED or (path.suffix == ".gguf" and path.is_file()):
        return
    near = nearest(name)
    hint = f"; did you mean {near}?" if near else ""
    raise ConfigError(
        f"{name} is no run folder, no .gguf file and no packaged model "
        f"({', '.join(PACKAGED)}){hint}; export another model's run with strop export --to gguf"
    )
