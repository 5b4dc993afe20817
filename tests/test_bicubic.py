"""The bicubic branch is `classsr.resize.resize` up to rounding, whose own reference is MATLAB's imresize."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from classsr.networks import Bicubic
from classsr.networks.bicubic import HalfProofPhases, Phases
from classsr.resize import resize


@given(
    scale=st.sampled_from([2, 3, 4]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_it_equals_resize_up_to_the_border(scale: int, height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).random((height, width, 3), np.float32)

    found = Bicubic(scale)(torch.from_numpy(picture).permute(2, 0, 1)[None])

    expected = resize(picture, scale)
    np.testing.assert_allclose(found[0].permute(1, 2, 0), expected, rtol=0, atol=1e-5)


def test_there_is_nothing_to_learn() -> None:
    assert not any(parameter.requires_grad for parameter in Bicubic(4).parameters())


def halved(x: Tensor) -> Tensor:
    """Round to bf16, of whose 16 bits eight are exact."""
    return x.bfloat16().float()


@pytest.mark.usefixtures("same_weights")
@pytest.mark.parametrize("limit", [255, 65535])
def test_rounding_what_is_convolved_to_half_precision_hardly_harms_it(limit: int) -> None:
    smooth = F.interpolate(torch.rand(4, 3, 4, 4), size=(48, 48), mode="bicubic")
    smooth = smooth.clamp(0, 1).mul(limit).round() / limit
    plain = Bicubic(4).enlarge
    assert isinstance(plain, Phases)
    expected = plain(smooth)
    proof = HalfProofPhases(plain)
    torch.testing.assert_close(proof(smooth), expected)

    proof.convolve.weight.data = halved(proof.convolve.weight)
    proof.convolve.register_forward_pre_hook(lambda _, given: (halved(given[0]),))
    found = proof(smooth)

    assert (found - expected).abs().max() < 0.01 / 255
    assert (halved(expected) - expected).abs().max() > 0.2 / 255


def test_autocast_costs_it_nothing() -> None:
    x = torch.rand(1, 3, 9, 9)
    expected = Bicubic(4)(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Bicubic(4)(x)

    assert torch.equal(found, expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_flat_picture_stays_as_it_is(scale: int) -> None:
    found = Bicubic(scale)(torch.full((1, 3, 4, 5), 0.7))

    torch.testing.assert_close(found, torch.full((1, 3, 4 * scale, 5 * scale), 0.7))
