"""The loop learns, stops before it spoils what it has, and goes on where it stopped, bit for bit.

It is tested with a 1x1 convolution that learns to invert colours.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from classsr.errors import TrainingError
from classsr.training.config import Schedule
from classsr.training.loop import Task, learning_rate, to_tensor, train
from pictures import noise

SCHEDULE = Schedule(
    iterations=12, batch=4, learning_rate=1e-2, validate_every=3, precision="32-true"
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, so that equal work gives equal bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def inverted(iteration: int) -> tuple[Any, Any]:
    """A batch that is a pure function of the iteration: pictures and their negatives."""
    lr = noise(4, 5, 5, 3, seed=iteration)
    return lr, 255 - lr


def l1(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    return {"loss": (module(x) - target).abs().mean()}


def psnr_of_inverting(module: nn.Module) -> dict[str, float]:
    x, target = (to_tensor(pictures, torch.device("cpu")) for pictures in inverted(10**6))
    return {"psnr": float(-10 * (module(x) - target).square().mean().log10())}


def toy(
    seed: int = 0,
    *,
    batch: Callable[[int], tuple[Any, Any]] = inverted,
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]] = l1,
    validate: Callable[[nn.Module], dict[str, float]] = psnr_of_inverting,
) -> Task:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))  # with running statistics
    return Task(module, batch, loss, validate, lambda path: save_file(module.state_dict(), path))


def interrupted_at(stop: int) -> Callable[[int], tuple[Any, Any]]:
    def batch(iteration: int) -> tuple[Any, Any]:
        if iteration == stop:
            raise KeyboardInterrupt
        return inverted(iteration)

    return batch


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    theirs = expected.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in found.state_dict().items())


def test_the_loss_falls(tmp_path: Path) -> None:
    schedule = SCHEDULE.model_copy(update={"iterations": 200, "validate_every": 50})

    train(toy(), schedule, folder=tmp_path)

    scores = [line["psnr"] for line in metrics(tmp_path) if "psnr" in line]
    assert len(scores) == 4
    assert scores[-1] > scores[0] + 6  # dB


def test_soap_minds_no_rotation_of_the_inputs(tmp_path: Path) -> None:
    """Its one claim over Adam: in its own basis it turns with the problem, so mixed inputs cost nothing."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4)))[0]
    schedule = SCHEDULE.model_copy(update={"iterations": 40, "optimizer": "soap"})
    outputs = []
    for basis in (torch.eye(3), turn):
        module = nn.Conv2d(3, 3, 1, bias=False)
        start = torch.eye(3) @ basis.T
        module.weight.data = start[:, :, None, None].clone()

        def loss(
            network: nn.Module, x: Tensor, target: Tensor, basis: Tensor = basis
        ) -> dict[str, Tensor]:
            mixed = torch.einsum("ij,njhw->nihw", basis, x)
            return {"loss": (network(mixed) - target).square().mean()}

        task = Task(module, inverted, loss, lambda _: {"psnr": 0.0}, lambda _: None)
        train(task, schedule, folder=tmp_path / str(len(outputs)))
        outputs.append(module.weight.detach()[:, :, 0, 0] @ basis)

    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-3)
    assert not torch.allclose(outputs[0], torch.eye(3), atol=0.05)  # it has moved


def test_the_loop_is_adam_with_a_falling_learning_rate(tmp_path: Path) -> None:
    reference = toy().module.train()
    optimizer = torch.optim.Adam(reference.parameters(), betas=(0.9, 0.99))
    for iteration in range(SCHEDULE.iterations):
        optimizer.param_groups[0]["lr"] = learning_rate(SCHEDULE, iteration)
        optimizer.zero_grad()
        x, target = (to_tensor(pictures, torch.device("cpu")) for pictures in inverted(iteration))
        torch.autograd.backward(l1(reference, x, target)["loss"])
        optimizer.step()
    task = toy()

    train(task, SCHEDULE, folder=tmp_path)

    for found, expected in zip(task.module.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=16)
@given(stop=st.integers(0, SCHEDULE.iterations - 1), optimizer=st.sampled_from(["adam", "soap"]))
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    stop: int, optimizer: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schedule = SCHEDULE.model_copy(update={"optimizer": optimizer})
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    uninterrupted, first, second = toy(), toy(), toy(seed=99)
    train(uninterrupted, schedule, folder=whole)
    with pytest.raises(KeyboardInterrupt):
        train(replace(first, batch=interrupted_at(stop)), schedule, folder=broken)
    if stop < SCHEDULE.validate_every:
        second = toy()  # nothing was saved yet: the stage begins again from its seed

    train(second, schedule, folder=broken)

    assert_same(second.module, uninterrupted.module)
    for name in ("best.safetensors", "last.safetensors"):
        found, expected = (load_file(folder / name) for folder in (broken, whole))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    done = toy()
    train(done, SCHEDULE, folder=tmp_path)
    again = toy(seed=5, batch=interrupted_at(SCHEDULE.iterations - 1))

    best = train(again, SCHEDULE, folder=tmp_path)

    assert best == tmp_path / "best.safetensors"
    assert_same(again.module, done.module)


def nan_from(start: int) -> Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]:
    steps = iter(range(10**6))

    def loss(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        factor = math.nan if next(steps) >= start else 1.0
        return {"loss": l1(module, x, target)["loss"] * factor}

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, value: float) -> None:
    task = toy(loss=lambda *args: {"loss": l1(*args)["loss"] * value})

    with pytest.raises(TrainingError, match=rf"became {value} at iteration 0.*learning_rate"):
        train(task, SCHEDULE, folder=tmp_path)


def test_the_last_good_state_survives_a_broken_loss(tmp_path: Path) -> None:
    whole = toy()
    train(whole, SCHEDULE, folder=tmp_path / "whole")
    with pytest.raises(TrainingError):
        train(toy(loss=nan_from(8)), SCHEDULE, folder=tmp_path / "broken")
    healed = toy(seed=99)

    train(healed, SCHEDULE, folder=tmp_path / "broken")

    assert_same(healed.module, whole.module)


def spoiling_gradient(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """A finite loss whose gradient is NaN: the square root of 0."""
    return {"loss": (l1(module, x, target)["loss"] * 0).sqrt()}


def test_spoilt_weights_are_never_saved(tmp_path: Path) -> None:
    every = SCHEDULE.model_copy(update={"validate_every": 1})

    with pytest.raises(TrainingError):
        train(toy(loss=spoiling_gradient), every, folder=tmp_path)

    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    "change",
    [{"iterations": 13}, {"batch": 5}, {"learning_rate": 2e-2}, {"final_learning_rate": 1e-6}],
    ids=lambda change: next(iter(change)),
)
def test_a_run_of_another_schedule_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(toy(batch=interrupted_at(5)), SCHEDULE, folder=tmp_path)

    with pytest.raises(TrainingError, match="another schedule"):
        train(toy(), SCHEDULE.model_copy(update=change), folder=tmp_path)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"half of it")

    with pytest.raises(TrainingError, match=r"state\.pt is damaged"):
        train(toy(), SCHEDULE, folder=tmp_path)


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    train(toy(), SCHEDULE, folder=tmp_path)
    other = replace(toy(), module=nn.Conv2d(3, 3, 3, padding=1))

    with pytest.raises(TrainingError, match="another network"):
        train(other, SCHEDULE, folder=tmp_path)


def test_a_state_that_could_not_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(toy(batch=interrupted_at(5)), SCHEDULE, folder=tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    task = replace(toy(), save=lambda path: path.touch())

    def fail(_content: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        train(task, SCHEDULE, folder=tmp_path)

    assert (tmp_path / "state.pt").read_bytes() == before


def scripted(scores: list[float]) -> Task:
    """A task whose validations score as scripted and whose checkpoints say after which of them they were made."""
    done = 0

    def validate(_module: nn.Module) -> dict[str, float]:
        nonlocal done
        done += 1
        return {"psnr": scores[done - 1]}

    def save(path: Path) -> None:
        path.write_text(str(done))

    return replace(toy(), validate=validate, save=save)


def test_best_is_the_checkpoint_of_the_highest_psnr(tmp_path: Path) -> None:
    best = train(scripted([20, 30, 25, 30]), SCHEDULE, folder=tmp_path)

    assert best.read_text() == "2"
    assert (tmp_path / "last.safetensors").read_text() == "4"


def test_the_end_is_validated_and_saved_whatever_the_interval(tmp_path: Path) -> None:
    uneven = SCHEDULE.model_copy(update={"validate_every": 5})

    train(scripted([20, 25, 30]), uneven, folder=tmp_path)

    assert [line["iteration"] for line in metrics(tmp_path) if "psnr" in line] == [5, 10, 12]
    assert (tmp_path / "last.safetensors").read_text() == "3"


def test_the_best_score_survives_an_interruption(tmp_path: Path) -> None:
    task = scripted([30])
    with pytest.raises(KeyboardInterrupt):
        train(replace(task, batch=interrupted_at(4)), SCHEDULE, folder=tmp_path)

    best = train(scripted([20, 25, 28]), SCHEDULE, folder=tmp_path)

    assert best.read_text() == "1"
    assert (tmp_path / "last.safetensors").read_text() == "3"


def test_training_is_in_training_mode_and_validation_is_not(tmp_path: Path) -> None:
    modes = {"loss": set[bool](), "validate": set[bool]()}

    def loss(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        modes["loss"].add(module.training and torch.is_grad_enabled())
        return l1(module, x, target)

    def validate(module: nn.Module) -> dict[str, float]:
        modes["validate"].add(module.training or torch.is_grad_enabled())
        return {"psnr": 0.0}

    train(toy(loss=loss, validate=validate), SCHEDULE, folder=tmp_path)

    assert modes == {"loss": {True}, "validate": {False}}


def test_pictures_reach_the_network_in_zero_to_one(tmp_path: Path) -> None:
    seen = []

    def loss(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        seen.append((x, target))
        return l1(module, x, target)

    train(toy(loss=loss), SCHEDULE, folder=tmp_path)

    assert [len(seen), seen[0][0].shape] == [12, (4, 3, 5, 5)]
    for iteration, (x, target) in enumerate(seen):
        lr, _ = inverted(iteration)
        np.testing.assert_allclose(x.numpy(), lr.transpose(0, 3, 1, 2) / np.float32(255))
        np.testing.assert_allclose(target.numpy(), 1 - x.numpy(), atol=1e-6)


def test_to_tensor_keeps_channels_last_in_memory() -> None:
    tensor = to_tensor(noise(2, 4, 6, 3), torch.device("cpu"))

    assert tensor.shape == (2, 3, 4, 6)
    assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_bf16_trains_weights_that_stay_in_float32(tmp_path: Path) -> None:
    task = toy()
    before = [p.detach().clone() for p in task.module.parameters()]

    train(task, SCHEDULE.model_copy(update={"precision": "bf16-mixed"}), folder=tmp_path)

    for parameter, old in zip(task.module.parameters(), before, strict=True):
        assert parameter.dtype == torch.float32
        assert not torch.equal(parameter, old)


# --- The learning rate ---


@given(
    iterations=st.integers(1, 10**6),
    high=st.floats(1e-5, 1),
    share=st.floats(0, 1),
)
def test_the_learning_rate_is_a_half_cosine(iterations: int, high: float, share: float) -> None:
    low = high * share
    schedule = Schedule(iterations=iterations, batch=1, learning_rate=high, final_learning_rate=low)

    rates = [learning_rate(schedule, i * iterations // 8) for i in range(9)]

    assert rates[0] == pytest.approx(high)
    assert rates[-1] == pytest.approx(low, abs=1e-12)
    assert rates == sorted(rates, reverse=True)
    if iterations % 2 == 0:
        assert learning_rate(schedule, iterations // 2) == pytest.approx((high + low) / 2)


def test_every_step_uses_the_learning_rate_of_its_iteration(tmp_path: Path) -> None:
    # The gradient is 1 at every step, and then each of Adam's steps is the learning rate itself.
    weights = []
    module = nn.Conv2d(1, 1, 1, bias=False)

    def slope_of_one(module: nn.Module, x: Tensor, _target: Tensor) -> dict[str, Tensor]:
        weights.append(float(next(module.parameters()).detach()))
        return {"loss": module(torch.ones_like(x)).mean()}

    task = Task(
        module,
        lambda _iteration: (noise(1, 2, 2, 1), noise(1, 2, 2, 1)),
        slope_of_one,
        lambda _module: {"psnr": 0.0},
        lambda _path: None,
    )

    train(task, SCHEDULE, folder=tmp_path)

    steps = -np.diff([*weights, float(module.weight.detach())])
    expected = [learning_rate(SCHEDULE, i) for i in range(SCHEDULE.iterations)]
    np.testing.assert_allclose(steps, expected, rtol=1e-3, atol=1e-6)
