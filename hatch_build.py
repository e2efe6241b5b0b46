"""Build hook: with STROP_COMPILE set, the wheel brings its C++ compiled for the usual processors."""

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("ops", "layers")


class CompileHook(BuildHookInterface):
    """Compiles each C++ file once for each level of processor, for wheels of this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the libraries to the wheel."""
        if self.target_name != "wheel" or version != "standard":
            return
        compiler = os.environ.get("STROP_COMPILE")  # noqa: TID251  # strop is not installed yet
        if not compiler:
            return
        package = Path(self.root) / "src" / "strop"
        prebuilt = runpy.run_path(str(package / "core" / "native" / "prebuilt.py"))
        self._folder = tempfile.TemporaryDirectory()
        for name, (flags, _) in prebuilt["LEVELS"].items():
            folder = Path(self._folder.name) / name
            folder.mkdir()
            for source in sorted(file for of in SOURCES for file in (package / of).rglob("*.cpp")):
                library = folder / f"{prebuilt['digest'](source)}.so"
                self.app.display_info(f"{source.relative_to(package)} for {name}")
                prebuilt["compile_library"](compiler, source, flags, library)
                inside = f"strop/core/native/compiled/{name}/{library.name}"
                build_data["force_include"][str(library)] = inside
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
