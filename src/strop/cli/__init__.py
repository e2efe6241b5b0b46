"""Reads arguments, calls one function, prints; no tensors."""

import sys


def main() -> None:
    """Run the command line; the entry point of `strop`."""
    try:
        from strop.cli.app import run

        run()
    except KeyboardInterrupt:  # while modules are imported; a command that runs ends so, too
        sys.exit(130)
