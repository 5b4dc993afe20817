"""Pictures from standard input and to standard output, by way of files in a temporary folder."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from classsr.cli.output import drop_the_rest
from classsr.errors import ClassSRError, OutputError, UsageError

PIPE = Path("-")


@contextmanager
def files_for_pipes(
    inputs: list[Path], output: Path | None, suffix: str
) -> Iterator[tuple[list[Path], Path | None, Callable[[str], str]]]:
    """Give `-` a file on either side: standard input is copied before, and to standard output when the block is left.

    Args:
        inputs: pictures; `-` only alone.
        output: where to, or `-`, or None: for standard input that is standard output.
        suffix: of the result on standard output, which decides its format.

    Yields:
        Inputs and output with files in the place of `-`, and what calls these files <stdin> and <stdout> in a text.

    Raises:
        OutputError: standard output is a terminal, or is closed by whoever reads it, or there is no room for temporary
            files.
        UsageError: there are other inputs beside `-`, or several for one output.

    """
    import tempfile

    reads = PIPE in inputs
    writes = output == PIPE or (reads and output is None)
    if len(inputs) > 1 and (reads or writes):
        raise UsageError("Expected one picture where - stands for standard input or output.")
    if not reads and not writes:
        yield inputs, output, str
        return
    if writes and sys.stdout.isatty():
        raise OutputError("A picture cannot be shown on a terminal; use -o FILE or a pipe.")
    try:
        scratch = tempfile.TemporaryDirectory(prefix="classsr-")
    except OSError as exc:
        raise OutputError(
            f"No temporary file can be made ({exc.strerror}); set TMPDIR to a folder that can be written."
        ) from exc
    with scratch as folder:
        source, target = Path(folder) / "stdin", Path(folder) / f"stdout{suffix}"
        if reads:
            inputs = [source]
            _keep_standard_input(source)
        if writes:
            output = target

        def as_told(text: str) -> str:
            return text.replace(str(source), "<stdin>").replace(str(target), "<stdout>")

        try:
            yield inputs, output, as_told
        except ClassSRError as exc:
            raise type(exc)(as_told(str(exc))) from exc
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


def _keep_standard_input(path: Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as exc:
        raise OutputError(
            f"Standard input cannot be kept in {path.parents[1]} ({exc.strerror}); make room, or set TMPDIR to a "
            "folder that has some."
        ) from exc
