"""Run the command line with `python -m classsr`."""

from classsr.cli import main

main()
