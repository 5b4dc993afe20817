"""Does a collapsed Class-Module recover by itself, and does the remedy help? Stage 2 from two bad starts.

    python benchmarks/collapse.py CONFIG --pairs PAIRS --run RUN

RUN holds trained branches; nothing in it is changed. The bad starts: "equal", the head's weights all zero, so that
every patch has equal logits; "saddle", the layer before it too, so that neither has a gradient; "saturation", level 0
favoured by a logit of 50, so that the softmax has no gradient. Prints Markdown.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from classsr.networks import Classifier
from classsr.training import stages
from classsr.training.loop import train
from classsr.training.stages import Experiment, open_experiment


def equal(classifier: Classifier) -> None:
    """Give every patch equal logits."""
    classifier.head.weight.data.zero_()
    classifier.head.bias.data.zero_()


def saddle(classifier: Classifier) -> None:
    """Give every patch equal logits from equal features."""
    equal(classifier)
    classifier.features[-1].get_parameter("weight").data.zero_()


def saturation(classifier: Classifier) -> None:
    """Make level 0 certain on every patch."""
    classifier.head.bias.data[0] += 50


STARTS: dict[str, Callable[[Classifier], None]] = {
    "equal": equal,
    "saddle": saddle,
    "saturation": saturation,
}


def run_stage_two(
    experiment: Experiment,
    start: Callable[[Classifier], None],
    folder: Path,
    errors: Path,
    *,
    remedy: bool,
) -> list[dict[str, float]]:
    """Train the Class-Module from a bad start and return the scores of its validations.

    The errors of the branches lie in a folder of their own, so that all starts share them.
    """
    torch.manual_seed(experiment.config.seed)
    model = stages.of_stage_one(experiment)
    schedule = experiment.config.classifier
    assert isinstance(model.classifier, Classifier)
    assert schedule is not None
    start(model.classifier)
    task = stages.classifier_task(experiment, model, errors)
    if not remedy:
        task = dataclasses.replace(task, fault=lambda _scores, _iteration: None)
    train(task, schedule, folder=folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "confidence" in line]


def main() -> None:
    """Run all four cases and print what each validation saw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS))
    arguments = parser.parse_args()
    experiment = open_experiment(
        arguments.config, arguments.pairs, arguments.run, threads=arguments.threads
    )
    changes = {
        "iterations": arguments.iterations,
        "batch": arguments.batch,
        "validate_every": max(arguments.iterations // 6, 1),
    }
    assert experiment.config.classifier is not None
    schedule = experiment.config.classifier.model_copy(update=changes)
    config = experiment.config.model_copy(update={"classifier": schedule})
    experiment = dataclasses.replace(experiment, config=config)
    print("| start | remedy | iteration | PSNR | shares, % | confidence | entropy |")
    print("|---|---|---|---|---|---|---|")
    errors = Path(tempfile.mkdtemp())
    for name in arguments.starts:
        for remedy in (False, True):
            folder = Path(tempfile.mkdtemp())
            for line in run_stage_two(experiment, STARTS[name], folder, errors, remedy=remedy):
                levels = range(len(config.model.branches))
                shares = " / ".join(f"{100 * line[f'share_{k}']:.0f}" for k in levels)
                print(
                    f"| {name} | {'yes' if remedy else 'no'} | {line['iteration']} | {line['psnr']:.2f} "
                    f"| {shares} | {line['confidence']:.3f} | {line['entropy']:.3f} |",
                    flush=True,
                )
            shutil.rmtree(folder)
    shutil.rmtree(errors)


if __name__ == "__main__":
    main()
