"""Training in several processes ends where one process ends, and a killed process loses nothing that was saved.

Everything runs as a user starts it: whole processes, `torchrun`, and `kill -9`.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from classsr.data.pairs import pack
from classsr.training import stages
from classsr.training.losses import average_loss
from classsr.training.stages import open_experiment
from pictures import write_landscapes

CONFIG = """
name = "tiny"
seed = 3

[model]
scale = 4
branches = [{ network = "fsrcnn", width = 4 }, { network = "fsrcnn", width = 6 }]

[data]
validation_pictures = 2
validation_patches = 10

[reference]
branch = { network = "fsrcnn", width = 4 }
schedule = { iterations = ITERATIONS, batch = 4, learning_rate = 1e-3, validate_every = 2, precision = "32-true" }

[branch]
iterations = 6
batch = 4
learning_rate = 1e-3
precision = "32-true"

[classifier]
iterations = 6
batch = 4
learning_rate = 1e-3
precision = "32-true"
ema = 0.9

[joint]
iterations = 6
batch = 4
learning_rate = 1e-3
precision = "32-true"
"""
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]


@dataclass(frozen=True)
class Lab:
    """A folder with pairs and the tiny config."""

    folder: Path

    def command(self, stage: str, run: str, *, processes: int = 1) -> list[str]:
        return [
            *(sys.executable, "-m", *(TORCHRUN if processes > 1 else [])),
            *("classsr", "train", *stage.split(), str(self.folder / "tiny.toml")),
            *("--pairs", str(self.folder / "pairs"), "--run", str(self.folder / run)),
            *("--threads", "1"),
        ]

    def train(self, stage: str, run: str, *, processes: int = 1) -> str:
        """Run a stage to its end and return what it said on stderr."""
        command = self.command(stage, run, processes=processes)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stderr


def lab_in(folder: Path, *, iterations: int) -> Lab:
    write_landscapes(folder / "hr", 6, 192, 320)
    pack(folder / "hr", folder / "pairs", scale=4, shrinks=(1.0,))
    (folder / "tiny.toml").write_text(CONFIG.replace("ITERATIONS", str(iterations)))
    return Lab(folder)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One process through all stages, in the run folder "one"; the folder "two" has everything before stage 2."""
    lab = lab_in(tmp_path_factory.mktemp("lab"), iterations=6)
    threads = torch.get_num_threads()
    experiment = open_experiment(
        lab.folder / "tiny.toml", lab.folder / "pairs", lab.folder / "one", threads=1
    )
    stages.train_reference(experiment)
    stages.rank_patches(experiment)
    for level in range(2):
        stages.train_branch(experiment, level)
    shutil.copytree(lab.folder / "one", lab.folder / "two")
    stages.train_classifier(experiment)
    stages.train_joint(experiment)
    yield lab
    torch.set_num_threads(threads)


def weights(lab: Lab, run: str, stage: str) -> dict[str, torch.Tensor]:
    return load_file(lab.folder / run / stage / "last.safetensors")


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@pytest.mark.parametrize("stage", ["classifier", "joint"])
def test_two_processes_end_where_one_does(lab: Lab, stage: str) -> None:
    # Stage 2 has Average-Loss, which is about a whole batch, and a running average of the weights.
    if stage == "joint":
        shutil.copytree(
            lab.folder / "one/classifier", lab.folder / "two/classifier", dirs_exist_ok=True
        )

    lab.train(stage, "two", processes=2)

    if stage == "classifier":  # each process has computed a part of the branches' errors
        one, two = (lab.folder / run / stage / "branch-errors.bin" for run in ("one", "two"))
        assert two.read_bytes() == one.read_bytes()
    found, expected = (flat(weights(lab, run, stage)) for run in ("two", "one"))
    before = flat(weights(lab, "two", "classifier")) if stage == "joint" else None
    off = (found - expected).abs()
    assert (
        off.mean() < 1e-6
    )  # sums in another order, of which Adam makes more where gradients are tiny
    assert off.max() < 2e-4
    if before is not None:
        assert (found - before).abs().mean() > 1e-4  # it has moved
    lines = (lab.folder / "two" / stage / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [6, 6]  # losses and scores, once


AVERAGE_LOSS = """
import sys, torch
from pathlib import Path
from classsr.training.losses import average_loss, from_all_processes
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
rows = torch.load(sys.argv[1])[rank::2].requires_grad_()
loss = average_loss(from_all_processes(rows))
loss.backward()
torch.save((loss.detach(), rows.grad), f"{sys.argv[1]}.{rank}")
torch.distributed.destroy_process_group()
"""


def test_average_loss_is_about_the_batch_of_all_processes(tmp_path: Path) -> None:
    # The first process alone would push its rows from level 0, the second from level 1.
    favoured = torch.tensor([0, 1, 0, 1, 0, 2])
    rows = (3.0 * torch.nn.functional.one_hot(favoured, 3)).softmax(dim=1)
    torch.save(rows, tmp_path / "rows")
    (tmp_path / "script.py").write_text(AVERAGE_LOSS)
    torchrun = [sys.executable, "-m", *TORCHRUN[:-2], str(tmp_path / "script.py")]

    subprocess.run([*torchrun, str(tmp_path / "rows")], check=True, capture_output=True)

    rows.requires_grad_()
    expected = average_loss(rows)
    (gradient,) = torch.autograd.grad(expected, rows)
    for rank in range(2):
        loss, found = torch.load(tmp_path / f"rows.{rank}")
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(found, 2 * gradient[rank::2])  # DDP takes the mean of both


def test_a_batch_that_cannot_be_shared_is_refused(lab: Lab, tmp_path: Path) -> None:
    odd = (lab.folder / "tiny.toml").read_text().replace("batch = 4", "batch = 3")
    (tmp_path / "tiny.toml").write_text(odd)
    (tmp_path / "pairs").symlink_to(lab.folder / "pairs")

    command = Lab(tmp_path).command("reference", "run", processes=2)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)

    assert done.returncode != 0
    assert "Expected a batch that 2 processes can share equally but got 3." in done.stderr


def test_a_killed_stage_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    lab = lab_in(tmp_path, iterations=60)
    state, killed = tmp_path / "broken/reference/state.pt", 0
    while killed < 3:
        process = subprocess.Popen(lab.command("reference", "broken"), stderr=subprocess.DEVNULL)
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
        assert torch.load(state, weights_only=True)["iteration"] % 2 == 0

    lab.train("reference", "broken")
    lab.train("reference", "whole")

    found, expected = (weights(lab, run, "reference") for run in ("broken", "whole"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
