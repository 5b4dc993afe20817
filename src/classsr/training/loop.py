"""The training loop of every stage: batches in, checkpoints and metrics out. Knows no stage by name.

A stage's folder holds `metrics.jsonl`, the same for TensorBoard, `best.safetensors` (by validation PSNR),
`last.safetensors` and `state.pt`, from which an interrupted stage goes on. All are written under another name first.

Under `torchrun` every process takes its part of each batch; the result is that of one process.
"""

import atexit
import io
import json
import logging
import math
import os
import pickle
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from numpy.typing import NDArray
from pytorch_optimizer import SOAP
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from classsr.data.pairs import RGB8
from classsr.errors import TrainingError
from classsr.files import alone_with, write_whole
from classsr.training.config import Schedule

METRICS = "metrics.jsonl"
LOG_EVERY = 200  # iterations
BETAS = (0.9, 0.99)  # the paper's
MOST_MENDED = 3  # times that a stage may mend its weights before it gives up

logger = logging.getLogger(__name__)


def to_tensor(pictures: RGB8, device: torch.device) -> Tensor:
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True, slots=True)
class Task:
    """What a stage trains and how it is judged.

    `batch` maps (iteration, part) to LR and a target, `part` being this process's rows of the batch; the target is HR
    or whatever `as_target` turns into a tensor. `loss` maps (module, LR, target), pictures in [0, 1], to named losses,
    of which "loss" is minimised. `validate` maps the module to named scores, of which "psnr" decides what is best.
    `prepare` is called once in every process, before the first batch. `fault` maps (scores, iteration) to why the
    weights cannot learn any more, if so, and `mend` changes them (module, times mended before) so that they can;
    without it the stage stops.
    """

    module: nn.Module
    batch: Callable[[int, slice], tuple[RGB8, NDArray[Any]]]
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    validate: Callable[[nn.Module], dict[str, float]]
    save: Callable[[nn.Module, Path], None]
    as_target: Callable[[NDArray[Any], torch.device], Tensor] = to_tensor
    prepare: Callable[[Fabric], None] = lambda _fabric: None
    fault: Callable[[dict[str, float], int], str | None] = lambda _scores, _iteration: None
    mend: Callable[[nn.Module, int], None] | None = None


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """Return the half-cosine's value: `learning_rate` at 0, `final_learning_rate` at the end."""
    low, high = schedule.final_learning_rate, schedule.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * iteration / schedule.iterations)) / 2


def build_optimizer(schedule: Schedule, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return what the schedule names, without weight decay."""
    if schedule.optimizer == "soap":
        return SOAP(parameters, lr=schedule.learning_rate, weight_decay=0.0)
    return torch.optim.Adam(parameters, lr=schedule.learning_rate, betas=BETAS, fused=True)


def train(task: Task, schedule: Schedule, *, folder: Path, device: str = "cpu") -> Path:
    """Run a stage to its end, from where it stopped if it was begun before.

    Returns:
        The best checkpoint.

    Raises:
        TrainingError: the loss is no longer finite, `folder` holds a run of another schedule or cannot be written, the
            weights had to be mended too often, the batch cannot be divided among the processes, or another run is at
            work in `folder`.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _train(task, schedule, folder, device)
    except BlockingIOError as exc:
        raise TrainingError(
            f"Another process trains in {folder}; wait for its end, or train in another folder."
        ) from exc
    except OSError as exc:
        raise TrainingError(
            f"{exc.filename or folder} cannot be read or written ({exc.strerror or exc}); the last good state is kept. "
            "When that is mended, run the same command again: it goes on from there."
        ) from exc
    return folder / "best.safetensors"


def _train(task: Task, schedule: Schedule, folder: Path, device: str) -> None:
    fabric = _fabric(device, schedule)
    module = task.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [p for p in module.parameters() if p.requires_grad]
    wrapped, optimizer = fabric.setup(module, build_optimizer(schedule, parameters))
    state = _State(module, optimizer, _average(module, schedule), schedule, folder / "state.pt")
    part = slice(fabric.global_rank, None, fabric.world_size)
    with ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(alone_with(folder / METRICS))
        started = state.load()
        task.prepare(fabric)
        metrics = None
        if fabric.is_global_zero:
            metrics = stack.enter_context(closing(_Metrics(folder, started, schedule)))
        for iteration in range(started, schedule.iterations):
            _to_training(wrapped, schedule)
            losses = _step(fabric, task, wrapped, optimizer, schedule, iteration, part)
            state.follow()
            done = iteration + 1
            if metrics and (done % LOG_EVERY == 0 or done == schedule.iterations):
                metrics.losses(done, losses)
            if done % schedule.validate_every == 0 or done == schedule.iterations:
                if not all(bool(p.isfinite().all()) for p in parameters):
                    raise TrainingError(
                        f"The weights were spoilt before iteration {done}; the last good state is kept. "
                        "Lower learning_rate, set clip_norm, or set precision to 32-true."
                    )
                _judge(fabric, task, state, metrics, done, folder)


def _to_training(module: nn.Module, schedule: Schedule) -> None:
    """Let layers do as they do in training, but for BatchNorm where its statistics are fixed."""
    module.train()
    if schedule.norms == "fixed":
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def _judge(
    fabric: Fabric,
    task: Task,
    state: "_State",
    metrics: "_Metrics | None",
    done: int,
    folder: Path,
) -> None:
    """Validate, save, and mend what cannot learn any more; the first process does it for all."""
    why = None
    if metrics:
        state.judged.eval()
        with torch.no_grad(), fabric.autocast():
            scores = task.validate(state.judged)
        metrics.scores(done, scores)
        if scores["psnr"] > state.best:
            state.best = scores["psnr"]
            task.save(state.judged, folder / "best.safetensors")
        why = task.fault(scores, done)
    why = fabric.broadcast(why)
    if why:
        if not task.mend or state.mended == MOST_MENDED or done == state.schedule["iterations"]:
            raise TrainingError(
                f"At iteration {done} {why}, after {state.mended} fresh starts; the last good state is kept. "
                "Lower learning_rate, or check that the patches and the branches differ."
            )
        if metrics:
            task.mend(state.module, state.mended)
        state.restart(fabric)
        logger.warning("%d: %s; it starts afresh (%d of %d)", done, why, state.mended, MOST_MENDED)
    if metrics:
        task.save(state.judged, folder / "last.safetensors")
        state.save(done)


def _fabric(device: str, schedule: Schedule) -> Fabric:
    """Set up this process, and its place among the others where `torchrun` started several."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if schedule.batch % processes:
        raise TrainingError(
            f"Expected a batch that {processes} processes can share equally but got {schedule.batch}."
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        plugins=_precision(schedule, device),
    )
    fabric.launch()
    atexit.register(_leave)
    return fabric


class _Autocast(MixedPrecision):
    """Mixed precision that leaves the pictures in float32, as they are at test time.

    Fabric's own rounds them to half precision first, of which 256 levels survive only in part.
    """

    def convert_input(self, data: object) -> object:
        """Return what a module is given, unchanged."""
        return data


def _precision(schedule: Schedule, device: str) -> Precision:
    if schedule.precision == "32-true":
        return Precision()
    return _Autocast(schedule.precision, device)


def _leave() -> None:
    """Part from the other processes, whose threads would otherwise end in std::terminate with this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _average(module: nn.Module, schedule: Schedule) -> AveragedModel | None:
    """Return the running average of the weights, if the schedule wants one."""
    if schedule.ema is None:
        return None
    return AveragedModel(
        module,
        multi_avg_fn=get_ema_multi_avg_fn(schedule.ema),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )


def _step(
    fabric: Fabric,
    task: Task,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    iteration: int,
    part: slice,
) -> dict[str, Tensor]:
    """Do one iteration and return its losses."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, iteration)
    lr, target = task.batch(iteration, part)
    losses = task.loss(module, to_tensor(lr, fabric.device), task.as_target(target, fabric.device))
    if not bool(losses["loss"].isfinite()):
        raise TrainingError(
            f"The loss became {float(losses['loss'].detach())} at iteration {iteration}; the last good state is kept. "
            "Lower learning_rate, set clip_norm, or set precision to 32-true."
        )
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(losses["loss"])
    if schedule.clip_norm is not None:
        nn.utils.clip_grad_norm_(module.parameters(), schedule.clip_norm)
    optimizer.step()
    return losses


class _Metrics:
    """Writes what happens to metrics.jsonl, TensorBoard and the log; drops what came after the last saved state."""

    def __init__(self, folder: Path, started: int, schedule: Schedule) -> None:
        self._path = folder / METRICS
        self._schedule, self._started = schedule, started
        self._clock = time.perf_counter()
        kept = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in kept if _iteration(line) <= started]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._board = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        log = SessionLog(status=SessionLog.START)  # from here on it replaces what came before
        self._note(Event(session_log=log, step=started + 1))

    def losses(self, done: int, losses: dict[str, Tensor]) -> None:
        """Write the losses of an iteration and when the stage will end."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        pace = (time.perf_counter() - self._clock) / (done - self._started)
        left = pace * (self._schedule.iterations - done) / 60
        more = {"learning_rate": learning_rate(self._schedule, done), "seconds_per_iteration": pace}
        self._write(done, values, more, f" | {1 / pace:.1f} it/s, {left:.0f} min left")

    def scores(self, done: int, scores: dict[str, float]) -> None:
        """Write the scores of a validation."""
        self._write(done, scores, {}, "")

    def close(self) -> None:
        """Close what is open; everything is written already."""
        self._board.close()

    def _note(self, event: Event) -> None:
        event.wall_time = time.time()
        self._board.write_event(event)
        self._board.flush()

    def _write(self, done: int, values: dict[str, float], more: dict[str, float], end: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": done, **values, **more}) + "\n")
        tags = [Summary.Value(tag=name, simple_value=v) for name, v in (values | more).items()]
        self._note(Event(summary=Summary(value=tags), step=done))
        text = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("%d/%d %s%s", done, self._schedule.iterations, text, end)


def _iteration(line: str) -> float:
    """Return the iteration of a line of metrics.jsonl; infinity for half a line."""
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class _State:
    """What an interrupted stage needs to go on: weights, their average, optimiser, place, best score."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel | None,
        schedule: Schedule,
        path: Path,
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.average = average
        self.schedule = schedule.model_dump()
        self.path = path
        self.best = -math.inf
        self.mended = 0

    @property
    def judged(self) -> nn.Module:
        """The module that is validated and saved: the running average, if there is one."""
        return self.module if self.average is None else self.average.module

    def follow(self) -> None:
        """Let the running average follow the weights."""
        if self.average is not None:
            self.average.update_parameters(self.module)

    def restart(self, fabric: Fabric) -> None:
        """Take over weights that the first process mended, in all processes and in the running average."""
        self.mended += 1
        if fabric.world_size > 1:
            for value in self.module.state_dict().values():
                torch.distributed.broadcast(value, src=0)
        if self.average is not None:
            self.average.module.load_state_dict(self.module.state_dict())

    def load(self) -> int:
        """Restore what the folder holds and return the number of iterations done."""
        if not self.path.exists():
            return 0
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (KeyError, RuntimeError, pickle.UnpicklingError) as exc:
            raise TrainingError(f"{self.path} is damaged; delete it to begin again.") from exc
        if saved["schedule"] != self.schedule:
            raise TrainingError(
                f"{self.path} belongs to a run with another schedule; use another --run folder or delete it."
            )
        try:
            self.module.load_state_dict(saved["module"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
        except RuntimeError as exc:
            raise TrainingError(
                f"{self.path} belongs to a run with another network; use another --run folder or delete it."
            ) from exc
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.mended = saved["best"], saved["mended"]
        return int(saved["iteration"])

    def save(self, iteration: int) -> None:
        """Write everything; the old state stays until the new one is complete."""
        content: dict[str, Any] = {
            "iteration": iteration,
            "schedule": self.schedule,
            "best": self.best,
            "mended": self.mended,
            "module": self.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        packed = io.BytesIO()
        torch.save(content, packed)
        write_whole(self.path, packed.getvalue())
