"""The command line: parses, calls one function, prints. Results go to stdout, everything else to stderr."""

from classsr.cli.app import app, main

__all__ = ["app", "main"]
