"""Reads arguments, calls one function, prints; no tensors."""


def main() -> None:
    """Run the command line; the entry point of `strop`."""
    from strop.cli.app import run

    run()
