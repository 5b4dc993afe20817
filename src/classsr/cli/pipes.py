"""Pictures from standard input and to standard output, by way of files in a temporary folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classsr.cli.output import drop_the_rest
from classsr.errors import OutputError, UsageError

PIPE = Path("-")


@contextmanager
def files_for_pipes(
    inputs: list[Path], output: Path | None, suffix: str
) -> Iterator[tuple[list[Path], Path | None]]:
    """Give `-` a file on either side: standard input is copied before, and to standard output when the block is left.

    Args:
        inputs: pictures; `-` only alone.
        output: where to, or `-`, or None: for standard input that is standard output.
        suffix: of the result on standard output, which decides its format.

    Yields:
        Inputs and output with files in the place of `-`.

    Raises:
        OutputError: standard output is a terminal, or is closed by whoever reads it.
        UsageError: there are other inputs beside `-`, or several for one output.

    """
    import shutil
    import tempfile

    reads = PIPE in inputs
    writes = output == PIPE or (reads and output is None)
    if len(inputs) > 1 and (reads or writes):
        raise UsageError("Expected one picture where - stands for standard input or output.")
    if not reads and not writes:
        yield inputs, output
        return
    if writes and sys.stdout.isatty():
        raise OutputError("A picture cannot be shown on a terminal; use -o FILE or a pipe.")
    with tempfile.TemporaryDirectory(prefix="classsr-") as folder:
        if reads:
            inputs = [Path(folder) / "stdin"]
            with inputs[0].open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if writes:
            output = Path(folder) / f"stdout{suffix}"
        yield inputs, output
        if writes and output is not None and output.exists():
            try:
                with output.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            except BrokenPipeError as exc:
                drop_the_rest(sys.stdout)
                raise OutputError(
                    "Standard output was closed before all of the picture was written."
                ) from exc
