"""Strips of rows on their way to an encoder that fetches what it needs itself, on a thread of its own.

`Worker` is the thread and the queue before it; `TiffStream` is what the encoder reads. Knows neither file formats nor
libvips, and never holds more than `WAITING_CHUNKS` chunks.
"""

import _thread
import queue
import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np

CHUNK_BYTES = 4 * 2**20
WAITING_CHUNKS = 16  # 64 MiB: enough to encode while the caller computes the next rows
TIFF_STRIP_BYTES = 2**20  # read at a time
TIFF_STRIP_ROWS = 64  # libvips reads ahead by strips, so that tall ones would be held in memory
POLL_SECONDS = 0.1  # on Windows, Ctrl-C does not end a wait


class Worker:
    """Work on a thread of its own, where Ctrl-C cannot come in between, and chunks of bytes handed over to it.

    Both sides share nothing but queues written in C: unlike with a lock, Ctrl-C cannot leave them half taken.
    """

    def __init__(self, work: Callable[["Worker"], None]) -> None:
        self.is_broken_off = False
        self._error: BaseException | None = None
        self._chunks: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(WAITING_CHUNKS):
            self._room.put(None)
        self._work = work
        self._is_started = self._has_begun = self._is_done = False

    def start(self) -> None:
        """Begin, unless it has begun; from then on `finish` or `break_off` has to be called."""
        if not self._is_started:
            self._is_started = True
            # Not a `threading.Thread`, whose `start` and `join` Ctrl-C can leave with a wrong idea of what runs.
            _thread.start_new_thread(self._run, ())

    def hand_over(self, chunk: memoryview) -> None:
        """Pass a chunk on as soon as there is room; raise what the work failed with, if it did."""
        self._wait()
        if self._is_done:
            self.finish()
            raise AssertionError("The work ended before it was told to.")
        self._chunks.put(chunk)

    def finish(self) -> None:
        """Say that everything has been handed over, and wait for the end of the work; raise what it failed with."""
        self._chunks.put(None)
        self._wait_for_end()
        if self._error is not None:
            raise self._error

    def break_off(self) -> None:
        """Ask the work to give up, and wait until it has; a Ctrl-C meanwhile changes nothing."""
        self.is_broken_off = True
        self._chunks.put(None)
        while self._has_begun and not self._is_done:
            with suppress(KeyboardInterrupt):  # the caller is on the way out already
                self._wait_for_end()

    def take(self) -> memoryview | None:
        """Wait for the next chunk; None from then on where none will come."""
        chunk = self._chunks.get()
        if chunk is None or self.is_broken_off:
            self._chunks.put(None)  # for whoever asks again
            return None
        self._room.put(None)
        return chunk

    def _wait(self) -> None:
        """Wait for room or for the end of the work."""
        while not self._is_done:
            with suppress(queue.Empty):
                self._room.get(timeout=POLL_SECONDS)
                return

    def _wait_for_end(self) -> None:
        while not self._is_done:
            self._wait()

    def _run(self) -> None:
        self._has_begun = True  # and only then look: `break_off` does it the other way round
        try:
            if not self.is_broken_off:
                self._work(self)
        except BaseException as exc:  # noqa: BLE001 - raised again by who waits for it
            self._error = exc
        del self._work  # which knows this worker: neither would be freed
        self._is_done = True
        self._room.put(None)


class TiffStream:
    """A picture as the bytes of an uncompressed TIFF file, read once from front to back while its rows still come.

    (H, W, `channels`) samples of `itemsize` bytes, little-endian; three channels are RGB, a fourth is alpha. Reads like
    a file whose head may be read again. Rows that `take` has no more of are zeros, because decoders put a complaint
    about an early end into the log: stop the encoder then, or drop what it made.

    TIFF, because a decoder has only to copy it: the same rows through a stored PNG took 0.18 s instead of 0.02 s for 60
    megapixels, and 44,000 callbacks instead of 400.
    """

    def __init__(
        self,
        take: Callable[[], memoryview | None],
        *,
        height: int,
        width: int,
        channels: int,
        itemsize: int,
    ) -> None:
        self._take = take
        self._head = _tiff_head(height, width, channels, itemsize)
        self._end = len(self._head) + height * width * channels * itemsize
        self._position = 0
        self._taken = len(self._head)  # where the next byte of the rows belongs
        self._rest = memoryview(b"")

    def read(self, buffer: memoryview) -> int:
        """Fill a buffer; return how many bytes it got, less than its length only at the end, -1 for a way back."""
        start, size = self._position, min(len(buffer), self._end - self._position)
        if start < len(self._head):
            head = self._head[start : start + size]
            buffer[: len(head)] = head
            self._position += len(head)
            return len(head)
        if start != self._taken:
            return -1
        filled = 0
        while filled < size:
            if not self._rest:
                chunk = self._take()
                self._rest = memoryview(bytes(size - filled)) if chunk is None else chunk
            piece = self._rest[: size - filled]
            buffer[filled : filled + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            filled += len(piece)
        self._position = self._taken = start + filled
        return filled

    def seek(self, offset: int, whence: int) -> int:
        """Move as a file does; only the head and the next byte of the rows can be read."""
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position


def _tiff_head(height: int, width: int, channels: int, itemsize: int) -> bytes:
    """Return all that stands before the rows: a BigTIFF header, its only directory and the table of strips."""
    row_bytes = width * channels * itemsize
    rows = max(1, min(TIFF_STRIP_BYTES // row_bytes, TIFF_STRIP_ROWS, height))
    count = -(-height // rows)
    has_alpha = channels == 4
    table_at = 16 + 8 + 20 * (9 + has_alpha) + 8  # header, entries with their number, the end
    rows_at = table_at + 2 * 8 * count
    offsets = rows_at + row_bytes * rows * np.arange(count, dtype="<u8")
    sizes = np.diff(offsets, append=np.uint64(rows_at + row_bytes * height)).astype("<u8")
    short, long, long8 = 3, 4, 16
    entries = [  # tag, type, count, value or where it stands
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, channels, sum(8 * itemsize << 16 * channel for channel in range(channels))),
        (259, short, 1, 1),  # uncompressed
        (262, short, 1, 2),  # RGB
        (273, long8, count, table_at if count > 1 else rows_at),
        (277, short, 1, channels),
        (278, long, 1, rows),
        (279, long8, count, table_at + 8 * count if count > 1 else int(sizes[0])),
        (338, short, 1, 2),  # alpha, not multiplied into the colours
    ][: 9 + has_alpha]
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries))
    directory = b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    return head + directory + bytes(8) + offsets.tobytes() + sizes.tobytes()
