"""No call that only some systems have stands without a branch on `sys.platform`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OF_SYSTEMS = re.compile(r"^\s*import (os|signal|resource|socket|fcntl|select|time)\b", re.MULTILINE)


@pytest.mark.slow
def test_what_windows_does_not_have_stands_behind_a_branch(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    files = [
        file
        for file in (ROOT / "src").rglob("*.py")
        if not file.name.startswith(("test_", "bench_"))
        and OF_SYSTEMS.search(file.read_text(encoding="utf-8"))
    ]
    assert len(files) > 20
    command = [sys.executable, "-m", "mypy", "--config-file=", "--platform", "win32"]
    command += ["--follow-imports=skip", "--ignore-missing-imports", "--explicit-package-bases"]
    done = subprocess.run(
        [*command, "--check-untyped-defs", "--cache-dir", str(tmp_path), *map(str, files)],
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert re.search(r"^(Found|Success)", done.stdout, re.MULTILINE), done.stdout + done.stderr
    absent = re.compile("Module has no attribute|is not defined")
    assert not [line for line in done.stdout.splitlines() if absent.search(line)]
