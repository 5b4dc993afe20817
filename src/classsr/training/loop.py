"""The training loop of every stage: batches in, checkpoints and metrics out. Knows no stage by name.

A stage's folder holds `metrics.jsonl`, `best.safetensors` (by validation PSNR), `last.safetensors` and `state.pt`,
from which an interrupted stage goes on. All are written under another name first.
"""

import json
import logging
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from lightning_fabric import Fabric
from pytorch_optimizer import SOAP
from torch import Tensor, nn

from classsr.data.pairs import RGB8
from classsr.errors import TrainingError
from classsr.training.config import Schedule

LOG_EVERY = 200  # iterations
BETAS = (0.9, 0.99)  # the paper's

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What a stage trains and how it is judged.

    `loss` maps (module, LR, HR), pictures in [0, 1], to named losses, of which "loss" is minimised. `validate` maps
    the module to named scores, of which "psnr" decides what is best.
    """

    module: nn.Module
    batch: Callable[[int], tuple[RGB8, RGB8]]
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    validate: Callable[[nn.Module], dict[str, float]]
    save: Callable[[Path], None]


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """Return the half-cosine's value: `learning_rate` at 0, `final_learning_rate` at the end."""
    low, high = schedule.final_learning_rate, schedule.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * iteration / schedule.iterations)) / 2


def build_optimizer(schedule: Schedule, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return what the schedule names, without weight decay."""
    if schedule.optimizer == "soap":
        return SOAP(parameters, lr=schedule.learning_rate, weight_decay=0.0)
    return torch.optim.Adam(parameters, lr=schedule.learning_rate, betas=BETAS, fused=True)


def to_tensor(pictures: RGB8, device: torch.device) -> Tensor:
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255


def train(task: Task, schedule: Schedule, *, folder: Path, device: str = "cpu") -> Path:
    """Run a stage to its end, from where it stopped if it was begun before.

    Returns:
        The best checkpoint.

    Raises:
        TrainingError: the loss is no longer finite, or `folder` holds a run of another schedule.

    """
    folder.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator=device, devices=1, precision=schedule.precision)
    module = task.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = build_optimizer(schedule, parameters)
    wrapped, optimizer = fabric.setup(module, optimizer)
    state = _State(module, optimizer, schedule, folder / "state.pt")
    started = state.load()
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        clock = time.perf_counter()
        for iteration in range(started, schedule.iterations):
            wrapped.train()
            losses = _step(fabric, task, wrapped, optimizer, schedule, iteration)
            done = iteration + 1
            if done % LOG_EVERY == 0 or done == schedule.iterations:
                pace = (time.perf_counter() - clock) / (done - started)
                _log(metrics, schedule, done, losses, pace)
            if done % schedule.validate_every == 0 or done == schedule.iterations:
                if not all(bool(p.isfinite().all()) for p in parameters):
                    raise TrainingError(
                        f"The weights were spoilt before iteration {done}; the last good state is kept. "
                        "Lower learning_rate or set precision to 32-true."
                    )
                wrapped.eval()
                with torch.no_grad():
                    scores = task.validate(wrapped)
                _log(metrics, schedule, done, scores, None)
                if scores["psnr"] > state.best:
                    state.best = scores["psnr"]
                    task.save(folder / "best.safetensors")
                task.save(folder / "last.safetensors")
                state.save(done)
    return folder / "best.safetensors"


def _step(
    fabric: Fabric,
    task: Task,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    iteration: int,
) -> dict[str, float]:
    """Do one iteration and return its losses."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, iteration)
    lr, hr = task.batch(iteration)
    losses = task.loss(module, to_tensor(lr, fabric.device), to_tensor(hr, fabric.device))
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not math.isfinite(values["loss"]):
        raise TrainingError(
            f"The loss became {values['loss']} at iteration {iteration}; the last good state is kept. "
            "Lower learning_rate or set precision to 32-true."
        )
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(losses["loss"])
    optimizer.step()
    return values


def _log(
    metrics: TextIO, schedule: Schedule, done: int, values: dict[str, float], pace: float | None
) -> None:
    """Append one line to metrics.jsonl and to the log."""
    line = {"iteration": done, **values}
    text = " ".join(f"{name} {value:.4g}" for name, value in values.items())
    if pace is not None:
        line["learning_rate"] = learning_rate(schedule, done)
        line["seconds_per_iteration"] = pace
        left = pace * (schedule.iterations - done) / 60
        text += f" | {1 / pace:.1f} it/s, {left:.0f} min left"
    metrics.write(json.dumps(line) + "\n")
    metrics.flush()
    logger.info("%d/%d %s", done, schedule.iterations, text)


class _State:
    """What an interrupted stage needs to go on: weights, optimiser, place in the schedule, best score."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, path: Path
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.schedule = schedule.model_dump()
        self.path = path
        self.best = -math.inf

    def load(self) -> int:
        """Restore what the folder holds and return the number of iterations done."""
        if not self.path.exists():
            return 0
        try:
            saved = torch.load(self.path, weights_only=True)
        except (KeyError, RuntimeError, pickle.UnpicklingError) as exc:
            raise TrainingError(f"{self.path} is damaged; delete it to begin again.") from exc
        if saved["schedule"] != self.schedule:
            raise TrainingError(
                f"{self.path} belongs to a run with another schedule; use another --run folder or delete it."
            )
        try:
            self.module.load_state_dict(saved["module"])
        except RuntimeError as exc:
            raise TrainingError(
                f"{self.path} belongs to a run with another network; use another --run folder or delete it."
            ) from exc
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best = saved["best"]
        return int(saved["iteration"])

    def save(self, iteration: int) -> None:
        """Write everything; the old state stays until the new one is complete."""
        part = self.path.with_suffix(".part")
        content = {
            "iteration": iteration,
            "schedule": self.schedule,
            "best": self.best,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(content, part)
        part.replace(self.path)
