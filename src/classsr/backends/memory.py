"""Batches that do not fit into memory are halved, whatever runs them."""

import logging
import sys
from math import prod

import numpy as np

from classsr.backends.base import Backend, Floats, Network, Pending, Queue
from classsr.errors import OutOfMemoryError
from classsr.model import Model

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


class _Sparing:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._pixels = sys.maxsize  # LR pixels that fit into one batch, as far as is known

    def __call__(self, batch: Floats) -> Floats:
        if self._may_fit(batch) or len(batch) == 1:
            try:
                return self._network(batch)
            except OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self._halve(len(batch), batch[0, 0].size)
        # A runtime keeps what it got for a part, so results get their place before more than one window is run.
        first = self._network(batch[:1])
        joined = _allocate((len(batch), *first.shape[1:]))
        joined[:1] = first
        start, window = 1, batch[0, 0].size
        while start < len(batch):
            part = batch[start : start + max(self._pixels // window, 1)]
            try:
                joined[start : start + len(part)] = self._network(part)
            except OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._halve(len(part), window)
            else:
                start += len(part)
        return joined

    def _may_fit(self, batch: Floats) -> bool:
        fits: bool = batch[:, 0].size <= self._pixels
        return fits

    def _halve(self, count: int, window: int) -> None:
        self._pixels = count // 2 * window
        logger.info("out of memory with %d windows at once; going on with half", count)


def _allocate(shape: tuple[int, ...]) -> Floats:
    try:
        return np.empty(shape, np.float32)
    except MemoryError as exc:
        raise OutOfMemoryError(
            f"There is too little memory for {shape[0]} results of {prod(shape[1:])} values; "
            "close other programs or choose a smaller picture."
        ) from exc


class _SparingQueue(_Sparing):
    def __init__(self, queue: Queue) -> None:
        super().__init__(queue)
        self._queue = queue

    def submit(self, batch: Floats) -> Pending:
        if not self._may_fit(batch):
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
