"""The loop learns, stops before it spoils what it has, and goes on where it stopped, bit for bit.

It is tested with a 1x1 convolution that learns to invert colours.
"""

import copy
import errno
import json
import math
import os
import struct
import sys
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
from tensorboardX.proto.event_pb2 import Event
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


Batch = Callable[[int, slice], tuple[Any, Any]]
ALL = slice(None)


def inverted(iteration: int, part: slice = ALL) -> tuple[Any, Any]:
    """A batch that is a pure function of the iteration: pictures and their negatives."""
    lr = noise(4, 5, 5, 3, seed=iteration)[part]
    return lr, 255 - lr


def l1(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    return {"loss": (module(x) - target).abs().mean()}


def psnr_of_inverting(module: nn.Module) -> dict[str, float]:
    x, target = (to_tensor(pictures, torch.device("cpu")) for pictures in inverted(10**6))
    return {"psnr": float(-10 * (module(x) - target).square().mean().log10())}


def toy(
    seed: int = 0,
    *,
    batch: Batch = inverted,
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]] = l1,
    validate: Callable[[nn.Module], dict[str, float]] = psnr_of_inverting,
) -> Task:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))  # with running statistics
    return Task(module, batch, loss, validate, lambda m, path: save_file(m.state_dict(), path))


def interrupted_at(stop: int) -> Batch:
    def batch(iteration: int, part: slice) -> tuple[Any, Any]:
        if iteration == stop:
            raise KeyboardInterrupt
        return inverted(iteration, part)

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


@pytest.mark.parametrize(("norms", "fixed"), [("fixed", True), ("batch", False)])
def test_fixed_norms_train_the_network_that_is_judged(
    tmp_path: Path, norms: str, fixed: bool
) -> None:
    same: list[bool] = []

    def loss(module: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        found = module(x)
        same.append(torch.equal(found, copy.deepcopy(module).eval()(x)))
        return {"loss": (found - target).abs().mean()}

    task = toy(loss=loss)
    before = copy.deepcopy(task.module.state_dict())
    train(task, SCHEDULE.model_copy(update={"norms": norms}), folder=tmp_path)

    after = task.module.state_dict()
    assert same == [fixed] * SCHEDULE.iterations
    for statistics in ("0.running_mean", "0.running_var"):
        assert torch.equal(after[statistics], before[statistics]) == fixed
    for learnt in ("0.weight", "0.bias"):
        assert not torch.equal(after[learnt], before[learnt])


def test_soap_minds_no_rotation_of_the_inputs(tmp_path: Path) -> None:
    """Its one claim over Adam: in its own basis it turns with the problem, so mixed inputs cost nothing."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4)))[0]
    schedule = SCHEDULE.model_copy(update={"iterations": 40, "optimizer": "soap"})
    outputs: list[Tensor] = []
    for basis in (torch.eye(3), turn):
        module = nn.Conv2d(3, 3, 1, bias=False)
        start = torch.eye(3) @ basis.T
        module.weight.data = start[:, :, None, None].clone()

        def loss(
            network: nn.Module, x: Tensor, target: Tensor, basis: Tensor = basis
        ) -> dict[str, Tensor]:
            mixed = torch.einsum("ij,njhw->nihw", basis, x)
            return {"loss": (network(mixed) - target).square().mean()}

        task = Task(module, inverted, loss, lambda _: {"psnr": 0.0}, lambda *_: None)
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
@given(
    stop=st.integers(0, SCHEDULE.iterations - 1),
    optimizer=st.sampled_from(["adam", "soap"]),
    ema=st.sampled_from([None, 0.9]),
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    stop: int, optimizer: str, ema: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schedule = SCHEDULE.model_copy(update={"optimizer": optimizer, "ema": ema})
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


def test_the_running_average_is_what_is_judged_and_saved(tmp_path: Path) -> None:
    schedule = SCHEDULE.model_copy(update={"ema": 0.9})
    states: list[dict[str, Tensor]] = []
    judged: list[Tensor] = []
    task = toy()

    def batch(iteration: int, part: slice) -> tuple[Any, Any]:
        states.append({k: v.clone() for k, v in task.module.state_dict().items()})
        return inverted(iteration, part)

    def validate(module: nn.Module) -> dict[str, float]:
        judged.append(module.get_parameter("1.weight").clone())
        return {"psnr": 0.0}

    train(replace(task, batch=batch, validate=validate), schedule, folder=tmp_path)

    states.append(task.module.state_dict())
    expected = states[1]["1.weight"]
    for state in states[2:]:
        expected = 0.9 * expected + 0.1 * state["1.weight"]
    saved = load_file(tmp_path / "last.safetensors")["1.weight"]
    torch.testing.assert_close(saved, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(judged[-1], saved, rtol=0, atol=0)
    assert not torch.allclose(saved, states[-1]["1.weight"], atol=1e-4)


def norms_of_gradients(schedule: Schedule, folder: Path) -> list[float]:
    """Train a toy and return the norm of the gradient that each step used, but for the last."""
    norms: list[float] = []
    task = toy()

    def batch(iteration: int, part: slice) -> tuple[Any, Any]:
        gradients = [p.grad.flatten() for p in task.module.parameters() if p.grad is not None]
        norms.extend([float(torch.cat(gradients).norm())] if gradients else [])
        return inverted(iteration, part)

    train(replace(task, batch=batch), schedule, folder=folder)
    return norms


def test_clipping_bounds_the_norm_of_the_gradient(tmp_path: Path) -> None:
    clipped = SCHEDULE.model_copy(update={"clip_norm": 0.01})

    assert min(norms_of_gradients(SCHEDULE, tmp_path / "free")) > 0.02
    assert max(norms_of_gradients(clipped, tmp_path / "clipped")) == pytest.approx(0.01, rel=1e-3)


def faulty_when(faulty: Callable[[int], bool]) -> Task:
    """A task that is at fault after such iterations, and is mended by setting its weights to 7."""

    def mend(module: nn.Module, mended: int) -> None:
        for parameter in module.parameters():
            parameter.data.fill_(7 + mended)

    return replace(toy(), fault=lambda _, n: "all is lost" if faulty(n) else None, mend=mend)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_mended_weights_are_saved_and_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ema: float | None
) -> None:
    schedule = SCHEDULE.model_copy(update={"validate_every": 3, "ema": ema})
    task = replace(faulty_when(lambda n: n == 6), batch=interrupted_at(8))

    with pytest.raises(KeyboardInterrupt):
        train(task, schedule, folder=tmp_path)

    saved = load_file(tmp_path / "last.safetensors")["1.weight"]
    assert bool((saved == 7).all())
    assert not bool((task.module.get_parameter("1.weight") == 7).any())
    assert "6: all is lost; it starts afresh (1 of 3)" in caplog.text


@pytest.mark.parametrize("interrupted", [False, True])
def test_weights_that_need_mending_too_often_end_the_run(
    tmp_path: Path, *, interrupted: bool
) -> None:
    schedule = SCHEDULE.model_copy(update={"validate_every": 1})
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            train(
                replace(faulty_when(lambda _: True), batch=interrupted_at(2)),
                schedule,
                folder=tmp_path,
            )

    with pytest.raises(TrainingError, match="iteration 4 all is lost, after 3 fresh starts"):
        train(faulty_when(lambda _: True), schedule, folder=tmp_path)

    assert torch.load(tmp_path / "state.pt", weights_only=True)["iteration"] == 3
    assert bool((load_file(tmp_path / "last.safetensors")["1.weight"] == 9).all())


def test_a_stage_does_not_end_with_weights_that_need_mending(tmp_path: Path) -> None:
    for _ in range(2):  # calling it again does not help
        with pytest.raises(TrainingError, match="iteration 12 all is lost, after 0 fresh"):
            train(faulty_when(lambda n: n == 12), SCHEDULE, folder=tmp_path)


def test_a_fault_that_is_not_to_be_mended_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="iteration 3 all is lost"):
        train(replace(faulty_when(lambda n: n == 3), mend=None), SCHEDULE, folder=tmp_path)

    assert not (tmp_path / "state.pt").exists()


def test_no_iteration_stands_twice_in_the_metrics(tmp_path: Path) -> None:
    every = SCHEDULE.model_copy(update={"validate_every": 2})
    with pytest.raises(KeyboardInterrupt):
        train(toy(batch=interrupted_at(9)), every, folder=tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:  # written after the last state
        file.write('{"iteration": 9, "psnr": 1.0}\n{"iteration": 1')

    train(toy(), every, folder=tmp_path)

    validated = [line["iteration"] for line in metrics(tmp_path) if "psnr" in line]
    assert validated == [2, 4, 6, 8, 10, 12]


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    train(toy(), SCHEDULE, folder=tmp_path)

    (events,) = tmp_path.glob("events.out.tfevents.*")
    records = read_events(events)
    found = {(e.step, v.tag): v.simple_value for e in records for v in e.summary.value}
    for line in metrics(tmp_path):
        for name, value in line.items():
            if name != "iteration":
                assert found[line["iteration"], name] == pytest.approx(value)


def read_events(path: Path) -> Iterator[Event]:
    """Read the records of an event file: length (8 bytes), its CRC (4), an Event, its CRC (4)."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_runs_in_one_folder_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    refused = []

    def batch(iteration: int, part: slice) -> tuple[Any, Any]:
        if iteration == 3:
            with pytest.raises(TrainingError, match="Another process trains in") as caught:
                train(toy(), SCHEDULE, folder=tmp_path / "one")
            refused.append(str(caught.value))
        return inverted(iteration, part)

    train(toy(batch=batch), SCHEDULE, folder=tmp_path / "one")
    train(toy(), SCHEDULE, folder=tmp_path / "other")

    assert len(refused) == 1
    found, expected = (load_file(tmp_path / f / "last.safetensors") for f in ("one", "other"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("file", ["state.pt", "metrics.jsonl"])
def test_a_full_disk_ends_training_in_one_sentence_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(toy(), SCHEDULE, folder=whole)
    with pytest.raises(KeyboardInterrupt):
        train(toy(batch=interrupted_at(4)), SCHEDULE, folder=broken)
    usual, before = Path.open, (broken / "state.pt").read_bytes()

    def open_on_full_disk(path: Path, mode: str = "r", **options: Any) -> Any:  # noqa: ANN401
        if path.name.startswith(file) and mode != "r":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return usual(path, mode, **options)

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(TrainingError, match=rf"{file}.*No space left on device.*is kept"):
        train(toy(), SCHEDULE, folder=broken)
    monkeypatch.undo()
    assert not list(broken.glob("*.part"))
    assert (broken / "state.pt").read_bytes() == before

    train(toy(), SCHEDULE, folder=broken)

    found, expected = (load_file(f / "last.safetensors") for f in (broken, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def scripted(scores: list[float]) -> Task:
    """A task whose validations score as scripted and whose checkpoints say after which of them they were made."""
    done = 0

    def validate(_module: nn.Module) -> dict[str, float]:
        nonlocal done
        done += 1
        return {"psnr": scores[done - 1]}

    def save(_module: nn.Module, path: Path) -> None:
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


def test_bf16_leaves_the_pictures_in_float32(tmp_path: Path) -> None:
    task, seen = toy(), []
    task.module.register_forward_pre_hook(lambda _module, given: seen.append(given[0].clone()))

    train(task, SCHEDULE.model_copy(update={"precision": "bf16-mixed"}), folder=tmp_path)

    lr, _ = inverted(0)
    assert torch.equal(seen[0], to_tensor(lr, torch.device("cpu")))


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
        lambda _iteration, _part: (noise(1, 2, 2, 1), noise(1, 2, 2, 1)),
        slope_of_one,
        lambda _module: {"psnr": 0.0},
        lambda _module, _path: None,
    )

    train(task, SCHEDULE, folder=tmp_path)

    steps = -np.diff([*weights, float(module.weight.detach())])
    expected = [learning_rate(SCHEDULE, i) for i in range(SCHEDULE.iterations)]
    np.testing.assert_allclose(steps, expected, rtol=1e-3, atol=1e-6)
