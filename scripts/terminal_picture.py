"""Write docs/images/terminal.svg: what a terminal shows of commands, run now.

python scripts/terminal_picture.py "strop plan rows.jsonl" "strop eval runs/tone" --in FOLDER
"""

import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import rich.console
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.text import Text

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "terminal.svg"
FONT_FACE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
"""Fonts that a picture of rich asks a server for; the reader's own do as well."""


def main() -> int:
    """Run the commands and write the picture; exit code of the first that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("commands", nargs="+", help="command lines, shown and run one by one")
    parser.add_argument("--in", dest="folder", type=Path, default=Path(), help="where they run")
    parser.add_argument("--width", type=int, default=100, help="columns")
    options = parser.parse_args()
    console = rich.console.Console(
        record=True,
        width=options.width,
        file=io.StringIO(),
        force_terminal=True,
    )
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251
    shown = {"FORCE_COLOR": "1", "COLUMNS": str(options.width), "PATH": places}
    for command in options.commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=options.folder,
            env={**os.environ, **shown},  # noqa: TID251
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return done.returncode
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(done.stdout.rstrip()))
        console.print()
    picture = console.export_svg(title="strop", code_format=FONT_FACE.sub("", CONSOLE_SVG_FORMAT))
    PICTURE.write_text(picture, encoding="utf-8")
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
