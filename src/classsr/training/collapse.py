"""Collapse: a Class-Module that tells no patches apart, seen in its validation scores and mended.

It has two forms. On the saddle all levels are equally likely everywhere, where Class-Loss has no gradient; in
saturation one level is certain everywhere, where the softmax has none and training never recovers by itself.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from classsr.networks import Classifier

PATIENCE = 1500  # iterations in which a Class-Module may leave the saddle by itself
UNDECIDED = 0.02  # mean largest probability above 1 / levels, below which nothing is told apart
TAKES_ALL = 0.99  # share of the patches that one level gets
CERTAIN = 0.99  # mean largest probability


def health(probabilities: Tensor) -> dict[str, float]:
    """Describe how the patches are spread over the levels.

    Args:
        probabilities: (N, M), rows sum to 1.

    Returns:
        `share_0` ... `share_<M-1>`: share of the patches whose likeliest level this is; `entropy`: mean over the
        patches, 1 where all levels are equally likely; `confidence`: mean of the largest probability.

    """
    levels = probabilities.shape[1]
    counts = torch.bincount(probabilities.argmax(dim=1), minlength=levels)
    scores = {f"share_{k}": float(n) / len(probabilities) for k, n in enumerate(counts)}
    entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1).mean() / math.log(levels)
    return scores | {
        "entropy": float(entropy),
        "confidence": float(probabilities.amax(dim=1).mean()),
    }


def collapse(scores: dict[str, float], levels: int, iteration: int) -> str | None:
    """Say in which way the Class-Module with this `health` has collapsed, or None."""
    if iteration >= PATIENCE and scores["confidence"] < 1 / levels + UNDECIDED:
        return "all levels are equally likely on every patch (the saddle of Class-Loss)"
    shares = [scores[f"share_{k}"] for k in range(levels)]
    if max(shares) > TAKES_ALL and scores["confidence"] > CERTAIN:
        return f"level {shares.index(max(shares))} is certain on every patch (saturation)"
    return None


@torch.no_grad()
def start_afresh(classifier: Classifier, x: Tensor, *, seed: int) -> None:
    """Give a Class-Module fresh weights that tell these patches apart: logits of mean 0 and deviation 1.

    There it is neither on the saddle nor saturated, and every level is the likeliest somewhere.

    Args:
        classifier: changed in place.
        x: patches (N, 3, H, W) in [0, 1], of all kinds.
        seed: of the fresh weights.

    """
    with _seeded(seed):
        fresh = Classifier(classifier.head.out_features).to(x.device)
    logits = fresh(x)
    deviation, mean = torch.std_mean(logits, dim=0)
    scale = 1 / deviation.clamp(min=1e-6)
    fresh.head.weight *= scale[:, None]
    fresh.head.bias.sub_(mean).mul_(scale)
    classifier.load_state_dict(fresh.state_dict())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
