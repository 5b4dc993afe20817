"""What has been done in an output folder, so that a run that was broken off goes on where it stopped.

A line of JSON is added when a picture is begun and when it is done, and none is ever changed, so that the process may
be killed at any time. Results take their names only when they are complete; hence one that was not there when its
picture was begun, and is there now, is complete, even if no line says so.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from classsr.errors import OutputError
from classsr.jobs import Job

NAME = ".classsr-manifest.jsonl"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line: the result, how far it is, and from what and how it was made; `result_bytes` once it is done."""

    result: str
    state: Literal["begun", "begun over another", "done"]
    source: str
    source_bytes: int
    changed_ns: int
    settings: str
    result_bytes: int | None = None


class Manifest:
    """The record of an output folder.

    Args:
        folder: where results go.
        settings: all that decides what becomes of a picture; what was made with others is not done.

    Raises:
        OutputError: there is a record that cannot be read.

    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder, self._settings = folder, settings
        self._path = folder / NAME
        self._entries: dict[str, _Entry] = {}
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        except OSError as exc:
            raise OutputError(
                f"{self._path} cannot be read ({exc.strerror}); choose another folder."
            ) from exc
        for line in text.splitlines():
            with suppress(ValueError, TypeError):  # a line that was cut off
                entry = _Entry(**json.loads(line))
                self._entries[entry.result] = entry
        self._is_cut_off = not text.endswith("\n") and text != ""

    def is_done(self, job: Job) -> bool:
        """Whether the result is there, made with these settings of the picture as it is now."""
        entry = self._entries.get(self._name(job))
        try:
            expected = self._entry(job, "begun")
            result_bytes = job.target.stat().st_size
        except OSError:
            return False
        done = self._entry(job, "done", result_bytes)
        return entry in (expected, done)

    def begin(self, job: Job) -> None:
        """Note that a picture is begun.

        Raises:
            OutputError: the record cannot be written.

        """
        is_there = os.path.lexists(job.target)
        with suppress(FileNotFoundError):  # no picture: whoever reads it will say so
            self._add(self._entry(job, "begun over another" if is_there else "begun"))

    def finish(self, job: Job) -> None:
        """Note that the result of a picture is there.

        Raises:
            OutputError: the record cannot be written.

        """
        with suppress(FileNotFoundError):
            self._add(self._entry(job, "done", job.target.stat().st_size))

    def _name(self, job: Job) -> str:
        return os.path.relpath(job.target, self._folder)

    def _entry(
        self,
        job: Job,
        state: Literal["begun", "begun over another", "done"],
        result_bytes: int | None = None,
    ) -> _Entry:
        stat = job.source.stat()
        return _Entry(
            self._name(job),
            state,
            str(job.source.absolute()),
            stat.st_size,
            stat.st_mtime_ns,
            self._settings,
            result_bytes,
        )

    def _add(self, entry: _Entry) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._is_cut_off + json.dumps(asdict(entry)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise OutputError(
                f"{self._path} cannot be written ({exc.strerror or exc}); make room or choose another folder."
            ) from exc
        self._is_cut_off = False
        self._entries[entry.result] = entry
