"""A bar or plain lines while pictures are enlarged."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from classsr.cli.options import say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

PLAIN_EVERY = 5.0  # seconds between progress lines where there is no terminal


class Progress:
    """A bar with time left on a terminal, plain lines elsewhere; both on stderr."""

    def __init__(self, source: Path) -> None:
        self._name = source.name
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
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=1.0)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, share: float) -> None:
        """Tell the share of the work that is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=share)
        elif time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            say(f"{self._name}: {100 * share:.0f} %")
