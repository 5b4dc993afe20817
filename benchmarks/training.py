"""Training iterations per second, stages 2 and 3 against the research code's way of doing them, in one run.

    python benchmarks/training.py                       # every backbone, every stage
    python benchmarks/training.py --networks fsrcnn carn --stages classifier
    python benchmarks/training.py --networks rcan --batch 8 --rounds 1   # with 96 its stage 3 takes over 24 GiB

The research code's way is re-created: a Python loop over the batch, every sample judged and run alone through all
branches, in float32, FSRCNN with its transposed convolution as written. Both ways compute the same mixture (checked
before the clock starts, in float32). Random patches; Markdown on stdout.

Ours runs the branches of stage 2 once over the patches and then learns from their errors. "whole stage" counts both,
for the iterations and patches of configs/NETWORK-x4.toml. Memory is the peak of a process that does that alone.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from classsr.networks import FSRCNN, BranchSpec, ClassSR, build_branch
from classsr.report import peak_mib
from classsr.training.branch_errors import keep
from classsr.training.config import Config, LossWeights, Schedule, load_config
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
KEPT = 2048  # patches whose errors are at hand
CONFIGS = Path(__file__).parents[1] / "configs"
STAGES = tuple(BATCH)


@dataclass(frozen=True)
class Way:
    """One way of doing an iteration, or a part of the work."""

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
    module: nn.Module, loss: Callable[[], Tensor], *, bf16: bool = False
) -> Callable[[], None]:
    """Return a function that does one whole iteration: forward, losses, backward, Adam."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = build_optimizer(Schedule(iterations=1, batch=1, learning_rate=1e-4), parameters)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            total = loss()
        torch.autograd.backward(total)
        optimizer.step()

    return step


def mixture_stepper(
    model: ClassSR,
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    batch: tuple[Tensor, Tensor],
    *,
    bf16: bool = False,
) -> Callable[[], None]:
    """Return a function that does one whole iteration on the mixture."""
    x, hr = batch
    return stepper(model, lambda: classsr_losses(forward(x), hr, LossWeights())["loss"], bf16=bf16)


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


def build_models(network: str, *, frozen: bool) -> tuple[ClassSR, ClassSR]:
    """Build ours and the research code's ClassSR, with equal weights, and make sure that they compute the same."""
    torch.manual_seed(0)
    ours, theirs = ClassSR(specs(network)), ClassSR(specs(network))
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        if frozen:
            model.freeze_branches()
        model.train()
    as_published(theirs)
    if frozen:  # with running statistics that move, BatchNorm sees a batch or a sample
        check_equal(ours, theirs)
    return ours.to(memory_format=torch.channels_last), theirs  # type: ignore[call-overload]


def research_way(theirs: ClassSR, count: int) -> Way:
    """Return the loop over samples."""
    x, hr = (each.contiguous() for each in patches(count))
    return Way("research code's", mixture_stepper(theirs, lambda x: one_by_one(theirs, x), (x, hr)))


def classifier_ways(network: str, count: int) -> list[Way]:
    """Build stage 2: iterations on the branches' errors, and the errors of a batch in both precisions."""
    ours, theirs = build_models(network, frozen=True)
    x, hr = patches(count)
    kept = torch.randint(0, 16, (count, 1, 1, PATCH, PATCH))
    errors = torch.rand(KEPT, len(ours.branches), 3, PATCH, PATCH).half().numpy()

    def loss() -> Tensor:
        chosen = torch.randint(0, KEPT, (count,)).numpy()
        error, probabilities = ours(x, torch.from_numpy(errors[chosen]))
        output = error, probabilities
        return classsr_losses(output, torch.zeros_like(error), LossWeights())["loss"]

    def run_branches(*, bf16: bool) -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for branch in ours.branches:
                keep(branch(x).float() - hr, kept).half()

    return [
        Way("iterations on errors", stepper(ours, loss)),
        Way("errors of a batch, bf16", lambda: run_branches(bf16=True)),
        Way("errors of a batch, f32", lambda: run_branches(bf16=False)),
        research_way(theirs, count),
    ]


def joint_ways(network: str, count: int) -> list[Way]:
    """Build stage 3 in both precisions."""
    ours, theirs = build_models(network, frozen=False)
    batch = patches(count)
    return [
        Way("bf16", mixture_stepper(ours, ours.mixture, batch, bf16=True)),
        Way("f32", mixture_stepper(ours, ours.mixture, batch)),
        research_way(theirs, count),
    ]


def branch_ways(network: str, count: int) -> list[Way]:
    """Build stage 1 of the hardest branch, in both precisions."""
    branch = build_branch(specs(network)[-1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, hr = patches(count)

    def loss() -> Tensor:
        return nn.functional.l1_loss(branch(x).float(), hr)

    return [
        Way("bf16", stepper(branch, loss, bf16=True)),
        Way("f32", stepper(branch, loss)),
    ]


WAYS = {"branch": branch_ways, "classifier": classifier_ways, "joint": joint_ways}


def time_in_turn(ways: Sequence[Way], rounds: int) -> list[float]:
    """Time all ways in turn, once each before the clock counts, and return the median seconds of each."""
    for way in ways:
        way.step()
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, spent in zip(ways, times, strict=True):
            started = time.perf_counter()
            way.step()
            spent.append(time.perf_counter() - started)
    return [statistics.median(spent) for spent in times]


def peak_memory(network: str, stage: str, count: int, way: int) -> float:
    """Do one way twice and return the peak memory of this process in MiB."""
    chosen = WAYS[stage](network, count)[way]
    chosen.step()
    chosen.step()
    return peak_mib() or float("nan")


def measure_memory(network: str, stage: str, count: int, ways: int) -> list[float]:
    """Return the peak memory of each way in a process of its own."""
    context = multiprocessing.get_context("spawn")
    found = []
    for way in range(ways):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found.append(pool.submit(peak_memory, network, stage, count, way).result())
    return found


def whole_stage(config: Config, step: float, errors: float, count: int) -> float:
    """Return the seconds that `count` patches of stage 2 take when the errors of all its patches are counted too."""
    kept = config.data.classifier_patches
    assert kept is not None
    assert config.classifier is not None
    drawn = config.classifier.iterations * config.classifier.batch
    return step + errors * kept / drawn


def report(network: str, stage: str, count: int, rounds: int) -> None:
    """Measure one stage of one backbone and print its rows."""
    ways = WAYS[stage](network, count)
    spent = time_in_turn(ways, rounds)
    memory = measure_memory(network, stage, count, len(ways))
    rows = list(zip([way.name for way in ways], spent, memory, strict=True))
    if stage == "classifier":
        config = load_config(CONFIGS / f"{network}-x4.toml")
        for place, name in ((1, "whole stage, bf16"), (2, "whole stage, f32")):
            seconds = whole_stage(config, spent[0], spent[place], count)
            rows.append((name, seconds, max(memory[0], memory[place])))
    theirs = spent[-1] if stage != "branch" else None
    for name, seconds, peak in rows:
        ratio = "" if theirs is None else f"{theirs / seconds:.1f}"
        print(
            f"| {network} | {stage} | {count} | {name} | {1 / seconds:.2f} | {ratio} | {peak:.0f} |",
            flush=True,
        )


def main() -> None:
    """Measure what the command line names and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="the paper's 16, 96 and 96 by default")
    arguments = parser.parse_args()
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.rounds} rounds\n"
    )
    print("| network | stage | batch | what | per second | times the research code's | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for network in arguments.networks:
        for stage in arguments.stages:
            report(network, stage, arguments.batch or BATCH[stage], arguments.rounds)


if __name__ == "__main__":
    main()
