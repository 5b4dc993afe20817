"""What a backend is: the runtime that loads networks and runs them. Knows no runtime by itself."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from classsr.errors import BackendError, OutOfMemoryError
from classsr.model import Model

Floats = NDArray[np.float32]
Precision = Literal["f32", "bf16", "f16"]
Choice = Literal["auto", "f32", "bf16", "f16"]
Pending = Callable[[], Floats]
"""Waits for the result of one batch and returns it."""

AHEAD = 1  # batches that are run while the result of another is used


class Network(Protocol):
    """A loaded network: float32 (N, 3, H, W) in [0, 1] -> float32, N first; any N, H and W.

    A branch may leave its last PixelShuffle to the caller; see `classsr.phases`. A result may be overwritten by the
    next call.
    """

    def __call__(self, batch: Floats) -> Floats:
        """Run the network on a batch.

        Raises:
            OutOfMemoryError: the runtime cannot allocate memory for the batch.
            BackendError: the runtime fails.

        """
        ...


@runtime_checkable
class Queue(Network, Protocol):
    """A network that works while its caller does something else."""

    def submit(self, batch: Floats) -> Pending:
        """Begin with a batch and return without waiting; raises as a call does, now or when the result is asked for.

        A result may be overwritten by the next call but one.
        """
        ...

    def cancel(self) -> None:
        """Give up all batches that were begun, as soon as the runtime can; their results may not be asked for."""
        ...


class Backend(Protocol):
    """A runtime, set up with its number of threads and its precision.

    `version` is the runtime's. `threads` of the processor are used, all where it is None. `precision` is what the
    branches run in; bicubic runs in f32, and in PyTorch what branches of integers do besides. The Class-Module always
    runs in f32: it costs little, and its decisions should not depend on the machine.
    """

    name: str
    version: str
    precision: Precision
    threads: int | None

    def classifier(self, model: Model) -> Network:
        """Load the Class-Module of a released model: tiles -> probabilities (N, levels).

        Raises:
            BackendError: the runtime cannot load it.

        """
        ...

    def branch(self, model: Model, level: int) -> Network:
        """Load the branch of one level of a released model.

        Raises:
            BackendError: the runtime cannot load it.

        """
        ...


def stream(jobs: Iterable[tuple[Network, Floats]]) -> Generator[Floats, None, None]:
    """Run batches in turn, each through its network; queues are kept busy while a result is used.

    A result may be overwritten once the next is asked for. Raises as the networks do; then, and when it is closed
    early, what has been begun is given up.
    """
    waiting: deque[tuple[Queue, Pending]] = deque()

    def first() -> Floats:
        result = waiting[0][1]()
        waiting.popleft()  # not before: what fails is given up too
        return result

    try:
        for network, batch in jobs:
            if not isinstance(network, Queue):
                while waiting:
                    yield first()
                yield network(batch)
                continue
            waiting.append((network, network.submit(batch)))
            if len(waiting) > AHEAD:
                yield first()
        while waiting:
            yield first()
    finally:
        for queue, _ in waiting:
            queue.cancel()


def failure(
    runtime: str, batch: Floats, exc: Exception, out_of_memory: Iterable[str]
) -> BackendError:
    """Say in our words why a runtime failed on a batch.

    Args:
        runtime: its name for people.
        batch: what it was given.
        exc: what it raised.
        out_of_memory: parts of its messages that mean that memory could not be allocated.

    """
    if isinstance(exc, MemoryError) or any(sign in str(exc) for sign in out_of_memory):
        count, _, height, width = batch.shape
        return OutOfMemoryError(
            f"{runtime} has too little memory for {count} windows of {width}x{height} pixels; "
            "close other programs or choose a smaller model."
        )
    return BackendError(f"{runtime} failed on a batch of {batch.shape} ({exc}).")
