"""Training iterations per second, and stage 2 against the research code's way of doing it, in one run.

    python benchmarks/training.py                       # every backbone, every stage
    python benchmarks/training.py --networks fsrcnn carn --stages classifier

The research code's way is re-created: a Python loop over the batch, every sample judged and run alone through all
branches, in float32, FSRCNN with its transposed convolution as written. Both ways compute the same mixture (checked
before the clock starts, in float32). Random patches; Markdown on stdout.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from classsr.networks import FSRCNN, BranchSpec, ClassSR, build_branch
from classsr.training.config import LossWeights, Schedule
from classsr.training.loop import build_optimizer
from classsr.training.stages import classsr_losses

WIDTHS = {
    "fsrcnn": (16, 36, 56),
    "carn": (36, 52, 64),
    "srresnet": (36, 52, 64),
    "rcan": (36, 50, 64),
    "compact": (16, 32, 64),
}
DEPTHS = {"compact": (6, 8, 12)}
BATCH = {"branch": 16, "classifier": 96, "joint": 96}  # the paper's
PATCH = 32
STAGES = tuple(BATCH)


@dataclass(frozen=True)
class Way:
    """One way of doing an iteration."""

    name: str
    step: Callable[[], None]


def specs(network: str) -> list[BranchSpec]:
    """Return the paper's three branches, or ours of `compact`."""
    depths = DEPTHS.get(network, (None,) * 3)
    return [BranchSpec(network, w, 4, d) for w, d in zip(WIDTHS[network], depths, strict=True)]


def one_by_one(model: ClassSR, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run the training form of ClassSR as the research code does: sample after sample."""
    outputs, judged = [], []
    for sample in x.split(1):
        probabilities = model.classifier(sample).softmax(dim=1)  # (1, M)
        branches = [branch(sample) for branch in model.branches]
        weighted = [probabilities[:, k, None, None, None] * y for k, y in enumerate(branches)]
        outputs.append(torch.stack(weighted).sum(dim=0))
        judged.append(probabilities)
    return torch.cat(outputs), torch.cat(judged)


def as_published(model: ClassSR) -> None:
    """Let FSRCNN's last layer be computed as the transposed convolution that it is."""
    for branch in model.branches:
        if isinstance(branch, FSRCNN):
            ours = branch.upsample
            plain = nn.ConvTranspose2d(
                ours.in_channels,
                ours.out_channels,
                ours.kernel_size,
                ours.stride,
                ours.padding,
                ours.output_padding,
            )
            plain.load_state_dict(ours.state_dict())
            branch.add_module("upsample", plain.requires_grad_(ours.weight.requires_grad))


def stepper(
    model: ClassSR,
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    batch: tuple[Tensor, Tensor],
    *,
    bf16: bool,
) -> Callable[[], None]:
    """Return a function that does one whole iteration: forward, losses, backward, Adam."""
    x, hr = batch
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer(Schedule(iterations=1, batch=1, learning_rate=1e-4), parameters)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = classsr_losses(forward(x), hr, LossWeights())["loss"]
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def patches(count: int) -> tuple[Tensor, Tensor]:
    """Draw LR and HR, channels last in memory as in training."""
    x = torch.rand(count, 3, PATCH, PATCH)
    hr = torch.rand(count, 3, 4 * PATCH, 4 * PATCH)
    return x.contiguous(memory_format=torch.channels_last), hr.contiguous(
        memory_format=torch.channels_last
    )


def check_equal(ours: ClassSR, theirs: ClassSR) -> None:
    """Make sure that both ways compute the same."""
    x, _ = patches(3)
    with torch.no_grad():
        for found, expected in zip(ours.mixture(x), one_by_one(theirs, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def two_ways(network: str, *, frozen: bool) -> tuple[list[Way], int]:
    """Build our way in both precisions and the research code's, with equal weights."""
    torch.manual_seed(0)
    count = BATCH["classifier" if frozen else "joint"]
    models = [ClassSR(specs(network)) for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    for model in models:
        if frozen:
            model.freeze_branches()
        model.train()
    as_published(models[2])
    if frozen:  # with running statistics that move, BatchNorm sees a batch or a sample
        check_equal(models[0], models[2])
    ours = [model.to(memory_format=torch.channels_last) for model in models[:2]]  # type: ignore[call-overload]
    x, hr = patches(count)
    plain = x.contiguous(), hr.contiguous()
    ways = [
        Way("ours, bf16", stepper(ours[0], ours[0].mixture, (x, hr), bf16=True)),
        Way("ours, f32", stepper(ours[1], ours[1].mixture, (x, hr), bf16=False)),
        Way(
            "research code's",
            stepper(models[2], lambda x: one_by_one(models[2], x), plain, bf16=False),
        ),
    ]
    return ways, count


def branch_ways(network: str) -> tuple[list[Way], int]:
    """Build stage 1 of the hardest branch, in both precisions."""
    ways = []
    for name, bf16 in (("ours, bf16", True), ("ours, f32", False)):
        branch = build_branch(specs(network)[-1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = build_optimizer(
            Schedule(iterations=1, batch=1, learning_rate=1e-4), list(branch.parameters())
        )
        x, hr = patches(BATCH["branch"])

        def step(
            branch: nn.Module = branch,
            optimizer: torch.optim.Optimizer = optimizer,
            x: Tensor = x,
            hr: Tensor = hr,
            bf16: bool = bf16,
        ) -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = nn.functional.l1_loss(branch(x).float(), hr)
            torch.autograd.backward(loss)
            optimizer.step()

        ways.append(Way(name, step))
    return ways, BATCH["branch"]


def seconds(ways: Sequence[Way], rounds: int) -> Iterator[float]:
    """Time all ways in turn, once each before the clock counts, and yield the median of each."""
    for way in ways:
        way.step()
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            started = time.perf_counter()
            way.step()
            spent.append(time.perf_counter() - started)
    yield from (statistics.median(spent) for spent in times)


def main() -> None:
    """Measure what the command line names and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, torch {torch.__version__}, {arguments.rounds} rounds\n")
    print("| network | stage | batch | way | iterations/s | times the research code's |")
    print("|---|---|---|---|---|---|")
    for network in arguments.networks:
        for stage in arguments.stages:
            if stage == "branch":
                ways, count = branch_ways(network)
            else:
                ways, count = two_ways(network, frozen=stage == "classifier")
            spent = list(seconds(ways, arguments.rounds))
            for way, each in zip(ways, spent, strict=True):
                ratio = "" if stage == "branch" else f"{spent[-1] / each:.1f}"
                print(f"| {network} | {stage} | {count} | {way.name} | {1 / each:.2f} | {ratio} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of the whole run: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
