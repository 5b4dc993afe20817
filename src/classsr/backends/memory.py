"""Batches that do not fit into memory are halved, whatever runs them."""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from classsr.backends.base import Backend, Floats, Network, Pending, Queue
from classsr.errors import OutOfMemoryError
from classsr.model import Model

T = TypeVar("T")

logger = logging.getLogger(__name__)


class SparingBackend:
    """A backend whose networks halve their batches when memory runs out."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.version = backend.name, backend.version
        self.precision, self.threads = backend.precision, backend.threads

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module; see `Backend.classifier`."""
        return spare_memory(self._backend.classifier(model))

    def branch(self, model: Model, level: int) -> Network:
        """Load one branch; see `Backend.branch`."""
        return spare_memory(self._backend.branch(model, level))


def spare_memory(network: Network) -> Network:
    """Return a network that halves a batch when memory runs out, and keeps later ones as small.

    A single picture that does not fit raises OutOfMemoryError as before.
    """
    return _SparingQueue(network) if isinstance(network, Queue) else _Sparing(network)


class _Limit:
    """How many LR pixels fit into one batch, as far as is known."""

    def __init__(self) -> None:
        self._pixels = sys.maxsize

    def allows(self, batch: Floats) -> bool:
        """Whether a batch is known or hoped to fit."""
        fits: bool = batch[:, 0].size <= self._pixels
        return fits

    def run(self, run: Callable[[Floats], T], batch: Floats) -> Iterator[T]:
        """Run a batch in as few parts as fit, in order."""
        window = batch.shape[2] * batch.shape[3]
        start = 0
        while start < len(batch):
            count = min(max(self._pixels // window, 1), len(batch) - start)
            try:
                result = run(batch[start : start + count])
            except OutOfMemoryError:
                if count == 1:
                    raise
                self._pixels = count // 2 * window
                logger.info("out of memory with %d windows at once; going on with half", count)
                continue
            yield result
            start += count


class _Sparing:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._limit = _Limit()

    def __call__(self, batch: Floats) -> Floats:
        joined: Floats | None = None
        start = 0
        for part in self._limit.run(self._network, batch):
            if len(part) == len(batch):
                return part
            if joined is None:
                joined = _allocate((len(batch), *part.shape[1:]))
            joined[start : start + len(part)] = part  # before the next call overwrites it
            start += len(part)
        assert joined is not None, "a batch has at least one picture"
        return joined


def _allocate(shape: tuple[int, ...]) -> Floats:
    try:
        return np.empty(shape, np.float32)
    except MemoryError as exc:
        raise OutOfMemoryError(
            f"There is too little memory for {shape[0]} results of {shape[-1]}x{shape[-2]} pixels; "
            "close other programs or choose a smaller picture."
        ) from exc


class _SparingQueue(_Sparing):
    def __init__(self, queue: Queue) -> None:
        super().__init__(queue)
        self._queue = queue

    def submit(self, batch: Floats) -> Pending:
        if not self._limit.allows(batch):
            return lambda: self(batch)
        try:
            pending = self._queue.submit(batch)
        except OutOfMemoryError:
            return lambda: self(batch)

        def result() -> Floats:
            try:
                return pending()
            except OutOfMemoryError:
                return self(batch)

        return result

    def cancel(self) -> None:
        self._queue.cancel()
