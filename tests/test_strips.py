"""Rows come out as they went in, neither side can leave the other waiting, and no thread is left behind."""

import io
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from classsr.image import strips
from classsr.image.strips import TiffStream, Worker


def read_all(stream: TiffStream, size: int) -> bytes:
    """What a program gets that reads `size` bytes at a time."""
    whole, buffer = b"", memoryview(bytearray(size))
    while (count := stream.read(buffer)) > 0:
        whole += bytes(buffer[:count])
    return whole


def in_chunks(content: bytes, size: int) -> Iterator[memoryview | None]:
    for start in range(0, len(content), size):
        yield memoryview(content)[start : start + size]
    yield from itertools.repeat(None)


def is_working() -> bool:
    """Whether some thread is at the work of a `Worker`."""
    return any(
        at.f_code is Worker._run.__code__
        for frame in sys._current_frames().values()
        for at, _ in traceback.walk_stack(frame)
    )


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.perf_counter() + 1
    while is_working():
        assert time.perf_counter() < deadline


# --- The stream ---


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 9),
    channels=st.sampled_from([3, 4]),
    dtype=st.sampled_from(["u1", "<u2"]),
    chunk=st.integers(1, 500),
    size=st.integers(1, 5000),
)
def test_tifffile_reads_the_stream_as_the_picture_it_carries(
    height: int, width: int, channels: int, dtype: str, chunk: int, size: int
) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels)).astype(dtype)
    chunks = in_chunks(pixels.tobytes(), chunk)
    stream = TiffStream(
        lambda: next(chunks),
        height=height,
        width=width,
        channels=channels,
        itemsize=pixels.itemsize,
    )

    with tifffile.TiffFile(io.BytesIO(read_all(stream, size))) as opened:
        np.testing.assert_array_equal(opened.asarray().reshape(pixels.shape), pixels, strict=True)
        assert len(opened.pages[0].aspage().extrasamples) == channels - 3


def test_the_head_can_be_read_again_and_the_rows_only_once() -> None:
    chunks = in_chunks(bytes(range(60)), 60)
    stream = TiffStream(lambda: next(chunks), height=4, width=5, channels=3, itemsize=1)
    buffer = memoryview(bytearray(10))
    first = read_all(stream, 50)
    rows_at = len(first) - 60

    assert stream.seek(0, os.SEEK_SET) == 0
    assert stream.read(buffer) == 10
    assert bytes(buffer) == first[:10]
    assert stream.seek(rows_at, os.SEEK_SET) == rows_at
    assert stream.read(buffer) == -1
    assert stream.seek(0, os.SEEK_END) == len(first)


def test_rows_that_do_not_come_read_as_zeros() -> None:
    chunks = in_chunks(b"x" * 31, 31)
    stream = TiffStream(lambda: next(chunks), height=4, width=5, channels=3, itemsize=1)

    assert read_all(stream, 100)[-60:] == b"x" * 31 + bytes(29)
    assert stream.read(memoryview(bytearray(10))) == 0


# --- The worker ---


def collect(into: list[bytes], *, seconds: float = 0.0) -> Worker:
    """A worker that takes all chunks, slowly."""

    def work(worker: Worker) -> None:
        while (chunk := worker.take()) is not None:
            time.sleep(seconds)
            into.append(bytes(chunk))

    return Worker(work)


def test_chunks_arrive_in_order_and_the_end_is_waited_for() -> None:
    taken: list[bytes] = []
    worker = collect(taken, seconds=0.001)
    worker.start()
    for number in range(100):
        worker.hand_over(memoryview(bytes([number])))
    assert is_working()
    worker.finish()

    assert taken == [bytes([number]) for number in range(100)]


def test_no_more_chunks_wait_than_there_is_room_for() -> None:
    given, release = 0, threading.Event()

    def work(worker: Worker) -> None:
        release.wait()
        while worker.take() is not None:
            continue

    def give() -> None:
        nonlocal given
        for _ in range(2 * strips.WAITING_CHUNKS):
            worker.hand_over(memoryview(b"x"))
            given += 1

    worker = Worker(work)
    worker.start()
    giving = threading.Thread(target=give)
    giving.start()
    time.sleep(0.1)
    assert given == strips.WAITING_CHUNKS
    release.set()
    giving.join()
    worker.finish()

    assert given == 2 * strips.WAITING_CHUNKS


def test_who_hands_over_to_work_that_has_failed_is_told_and_does_not_wait() -> None:
    def fail(worker: Worker) -> None:
        worker.take()
        raise OSError("full")

    worker = Worker(fail)
    worker.start()

    def give() -> None:
        for _ in range(2 * strips.WAITING_CHUNKS):
            worker.hand_over(memoryview(b"x"))

    with pytest.raises(OSError, match="full"):
        give()
    with pytest.raises(OSError, match="full"):
        worker.finish()


def test_breaking_off_ends_work_that_waits_for_chunks() -> None:
    worker = collect([])
    worker.start()

    worker.break_off()

    assert worker.is_broken_off


def test_chunks_that_wait_are_dropped_when_the_work_is_broken_off() -> None:
    taken: list[bytes] = []
    worker = collect(taken, seconds=0.1)
    worker.start()
    for _ in range(10):
        worker.hand_over(memoryview(b"x"))

    worker.break_off()

    assert len(taken) <= 2


def test_what_is_broken_off_before_it_begins_is_never_done() -> None:
    done = False

    def work(_worker: Worker) -> None:
        nonlocal done
        done = True

    worker = Worker(work)
    worker.break_off()
    worker.start()
    worker.finish()

    assert not done


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, whatever this process has inherited or another test has left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_while_breaking_off_waits_for_the_end_all_the_same() -> None:
    begun, ended = threading.Event(), False

    def work(worker: Worker) -> None:
        nonlocal ended
        begun.set()
        while worker.take() is not None:
            continue
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        ended = True

    worker = Worker(work)
    worker.start()
    begun.wait()
    worker.break_off()

    assert ended
