"""A bar or plain lines while pictures are enlarged."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from classsr.cli.output import printable, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

PLAIN_EVERY = 5.0  # seconds between progress lines where there is no terminal


class Progress:
    """The share of all pixels that is done: a bar with time left on a terminal, else plain lines; both on stderr."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._said = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),  # "[bold]" may be part of a name
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, source: Path, share: float) -> None:
        """Tell which picture is enlarged and the share of all that is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=share, description=printable(source.name))
        elif time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            say(f"{source.name}: {100 * share:.0f} %")
