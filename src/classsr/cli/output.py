"""How commands say something on standard error, and tell results on standard output."""

import os
import re
import sys
from typing import TextIO

from classsr.errors import OutputError

# Characters of a file's name that would break a line, command a terminal, turn the direction of writing or that no
# encoding has: controls, separators of lines, marks of direction, and surrogates, which stand for undecodable bytes.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a text as one line that can be printed anywhere, with what is unprintable as Python escapes it."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def tell(text: str, file: TextIO | None = None) -> None:
    """Print one line of a result, on stdout by default.

    Raises:
        OutputError: it cannot be written, because the disk is full, say.

    """
    file = sys.stdout if file is None else file
    try:
        file.write(printable(text) + "\n")
        file.flush()
    except BrokenPipeError:  # who reads has seen enough
        raise
    except OSError as exc:
        drop_the_rest(file)
        raise OutputError(
            f"The standard output cannot be written ({exc.strerror or exc}); make room or send it elsewhere."
        ) from exc


def drop_the_rest(file: TextIO) -> None:
    """See to it that what is still buffered does not fail once more at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def say_what_is_logged() -> None:
    """Have everything that the package logs said, too."""
    import logging

    class Saying(logging.Handler):
        """Says what is logged."""

        def emit(self, record: logging.LogRecord) -> None:
            say(self.format(record))

    logger = logging.getLogger("classsr")
    logger.addHandler(Saying())
    logger.setLevel(logging.INFO)
