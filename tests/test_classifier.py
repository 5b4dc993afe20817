"""The Class-Module has the paper's size (table 2 of the ClassSR paper) and judges each sub-image by itself."""

import pytest
import torch

from branches import parameters
from classsr.networks import Classifier

pytestmark = pytest.mark.usefixtures("same_weights")


def test_the_classifier_has_the_papers_parameters() -> None:
    assert parameters(Classifier(3)) == 60_035


def test_the_classifier_judges_each_sub_image_by_itself() -> None:
    classifier = Classifier(3)
    x = torch.rand(4, 3, 32, 32)

    together = classifier(x)

    apart = torch.cat([classifier(x[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
    assert len({tuple(row) for row in together.tolist()}) == 4  # and they are not judged alike


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 31), (32, 32), (48, 64)])
def test_the_classifier_takes_any_size_from_4(height: int, width: int) -> None:
    assert Classifier(5)(torch.rand(2, 3, height, width)).shape == (2, 5)
