"""The command line. `main` is the entry point of the command `authz`."""

from authz.cli.main import main

__all__ = ["main"]
