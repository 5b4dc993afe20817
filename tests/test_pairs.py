"""Packed pairs hold each picture and its shrunk copies, LR is made from HR, and half a packing is never opened."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classsr.data.drawn import drawn
from classsr.data.pairs import (
    GRAIN_STRENGTH,
    SHRINKS,
    copy_of,
    crop_to_multiple,
    make_pairs,
    open_pairs,
    pack,
    to_eight_bit,
    with_grain,
)
from classsr.errors import InputError, OutputError
from classsr.image import Picture, write
from classsr.resize import resize
from pictures import landscape, noise, write_landscapes

HEIGHT, WIDTH = 54, 67  # not multiples of 4


@pytest.fixture(scope="module")
def hr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_landscapes(tmp_path_factory.mktemp("hr"), 3, HEIGHT, WIDTH)


def test_each_picture_is_packed_with_its_shrunk_copies(hr_folder: Path, tmp_path: Path) -> None:
    pairs = pack(hr_folder, tmp_path, scale=4)

    packed = [(entry.name, entry.shrink) for entry in pairs.entries]
    assert packed == [(f"{n:02}.png", shrink) for n in range(3) for shrink in SHRINKS]


def test_hr_is_the_shrunk_picture_cropped_to_a_multiple_of_the_scale(
    hr_folder: Path, tmp_path: Path
) -> None:
    pairs = pack(hr_folder, tmp_path, scale=4)

    for index, entry in enumerate(pairs.entries):
        shrunk = resize(np.asarray(Image.open(hr_folder / entry.name)), entry.shrink)
        height, width = (4 * (side // 4) for side in shrunk.shape[:2])
        np.testing.assert_array_equal(pairs.hr(index), shrunk[:height, :width])


@pytest.mark.parametrize("factor", [1.25, 1.5, 2.0])
def test_a_copy_above_one_is_the_middle_enlarged_to_the_pictures_size(factor: float) -> None:
    picture = landscape(120, 180)
    top, bottom, left, right = (
        round(side * (1 + sign / factor) / 2) for side in (120, 180) for sign in (-1, 1)
    )

    copy = copy_of(picture, factor)

    assert copy.shape == picture.shape
    np.testing.assert_array_equal(copy, resize(picture[top:bottom, left:right], factor))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (90, 61), (719, 1279)])
def test_a_copy_above_one_has_the_pictures_size_within_two_pixels(size: tuple[int, int]) -> None:
    copy = copy_of(np.full((*size, 3), 77, np.uint8), 1.5)

    assert max(abs(a - b) for a, b in zip(copy.shape[:2], size, strict=True)) <= 2
    assert (copy == 77).all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_is_the_resized_hr(hr_folder: Path, tmp_path: Path, scale: int) -> None:
    pairs = pack(hr_folder, tmp_path, scale=scale, shrinks=(1.0, 0.7))

    assert pairs.scale == scale
    for index, entry in enumerate(pairs.entries):
        hr, lr = pairs.hr(index), pairs.lr(index)
        assert lr.shape == (entry.height, entry.width, 3)
        assert hr.shape == (scale * entry.height, scale * entry.width, 3)
        np.testing.assert_array_equal(lr, resize(hr, 1 / scale))


def test_drawn_pictures_follow_those_of_the_folder(hr_folder: Path, tmp_path: Path) -> None:
    plain = pack(hr_folder, tmp_path / "plain", scale=4, shrinks=(1.0, 0.5))
    more = pack(hr_folder, tmp_path / "more", scale=4, shrinks=(1.0, 0.5), draw=2)

    count = len(plain.entries)
    assert more.entries[:count] == plain.entries
    assert {entry.name for entry in more.entries[count:]} == {"drawn-000", "drawn-001"}
    np.testing.assert_array_equal(more.hr(count + 2), drawn(1))
    np.testing.assert_array_equal(more.lr(count + 2), resize(drawn(1), 0.25))
    assert more.checksum != plain.checksum


def test_grain_is_one_more_copy_that_differs_from_the_enlarged_one_by_noise(
    hr_folder: Path, tmp_path: Path
) -> None:
    plain = pack(hr_folder, tmp_path / "plain", scale=4, shrinks=(2.0, 1.0))
    with_noise = pack(hr_folder, tmp_path / "more", scale=4, shrinks=(1.0,), grain=2.0)

    assert with_noise.entries == plain.entries
    strengths = []
    for index, entry in enumerate(plain.entries):
        inner = (plain.hr(index) > 20) & (plain.hr(index) < 235)
        difference = with_noise.hr(index).astype(int) - plain.hr(index)
        if entry.shrink == 1.0:
            assert not difference.any()
        else:
            strengths.append(difference[inner].std())
            assert abs(difference[inner].mean()) < 0.1
    assert 0.6 < min(strengths) < max(strengths) < 2.6


@pytest.mark.parametrize("level", [60, 61])
def test_grain_is_as_strong_in_all_pixels_and_always_the_same(level: int) -> None:
    flat = np.full((200, 300, 3), level, np.uint8)
    low, high = GRAIN_STRENGTH

    found = with_grain(flat)

    np.testing.assert_array_equal(found, with_grain(flat))
    for part in (found[:100], found[100:], found[:, :150], found[:, 150:], found[:1], found[:, :1]):
        assert 0.9 * low < part.std() < 1.1 * high + 0.3  # a third of a step is rounding
    assert abs(found[:100].std() - found[100:].std()) < 0.1
    other = with_grain(np.full_like(flat, level + 1)).astype(int) - 1
    assert (other != found).mean() > 0.3


def test_the_number_of_workers_changes_nothing(hr_folder: Path, tmp_path: Path) -> None:
    one = pack(hr_folder, tmp_path / "one", scale=4, workers=1)
    two = pack(hr_folder, tmp_path / "two", scale=4, workers=2)

    assert one.entries == two.entries
    assert one.checksum == two.checksum
    np.testing.assert_array_equal(one.hr_pixels, two.hr_pixels)
    np.testing.assert_array_equal(one.lr_pixels, two.lr_pixels)


def test_open_pairs_finds_what_was_packed(hr_folder: Path, tmp_path: Path) -> None:
    packed = pack(hr_folder, tmp_path, scale=4)

    opened = open_pairs(tmp_path)

    assert (opened.scale, opened.entries, opened.checksum) == (4, packed.entries, packed.checksum)
    np.testing.assert_array_equal(opened.hr(7), packed.hr(7))


def test_packed_pixels_cannot_be_changed(hr_folder: Path, tmp_path: Path) -> None:
    pairs = pack(hr_folder, tmp_path, scale=4)

    for picture in (pairs.hr(0), pairs.lr(0)):
        with pytest.raises(ValueError, match="read-only"):
            picture[0, 0] = 0


def test_the_checksum_is_that_of_the_sources(tmp_path: Path) -> None:
    first, second = (write_landscapes(tmp_path / name, 2, 40, 40) for name in "ab")
    original = pack(first, tmp_path / "packed-a", scale=4, shrinks=(1.0,)).checksum
    assert pack(second, tmp_path / "packed-b", scale=4, shrinks=(1.0,)).checksum == original

    Image.fromarray(landscape(40, 40, seed=9)).save(second / "01.png")

    assert pack(second, tmp_path / "packed-b", scale=4, shrinks=(1.0,)).checksum != original


def test_progress_counts_pictures(hr_folder: Path, tmp_path: Path) -> None:
    seen = []

    pack(hr_folder, tmp_path, scale=4, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_copy_too_small_for_one_lr_pixel_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(noise(5, 20, 3)).save(tmp_path / "flat.png")

    pairs = make_pairs(tmp_path / "flat.png", scale=4, shrinks=(1.0, 0.9, 0.6))

    assert [(shrink, lr.shape) for shrink, lr, _ in pairs] == [
        (1.0, (1, 5, 3)),
        (0.9, (1, 4, 3)),  # 5 * 0.9 is 5 pixels rounded up, 5 * 0.6 is 3
    ]


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    samples = noise(8, 8, 3).astype(np.uint16) * 257
    write(Picture(samples + np.uint16(100) * (samples < 65_000)), tmp_path / "deep.png")

    ((_, _, hr),) = make_pairs(tmp_path / "deep.png", scale=4, shrinks=(1.0,))

    np.testing.assert_array_equal(hr, noise(8, 8, 3))


def test_rounding_to_eight_bits_takes_the_nearest() -> None:
    samples = np.array([0, 128, 129, 257 * 9 + 128, 257 * 9 + 129, 65535], np.uint16)

    assert to_eight_bit(samples).tolist() == [0, 0, 1, 9, 10, 255]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 11), (4, 7)])
def test_cropping_takes_from_the_right_and_the_bottom(height: int, width: int) -> None:
    image = noise(height, width, 3)

    cropped = crop_to_multiple(image, 4)

    assert cropped.shape == (height - height % 4, width - width % 4, 3)
    np.testing.assert_array_equal(cropped, image[: cropped.shape[0], : cropped.shape[1]])


# --- Half a packing ---


def test_a_broken_packing_leaves_nothing_to_open(hr_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack(hr_folder, out, scale=4)
    mixed = write_landscapes(tmp_path / "hr", 2, 40, 40)
    (mixed / "01.png").write_bytes(b"no picture")

    with pytest.raises(InputError, match=r"01\.png"):
        pack(mixed, out, scale=4)

    assert not (out / "pairs.json").exists()
    with pytest.raises(InputError, match="classsr data pack"):
        open_pairs(out)


def test_an_interrupted_packing_leaves_nothing_to_open(hr_folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(hr_folder, tmp_path, scale=4, progress=interrupt)

    assert (tmp_path / "hr.bin").exists()  # the work was under way
    with pytest.raises(InputError, match=r"pairs\.json"):
        open_pairs(tmp_path)


@pytest.mark.parametrize("taken", ["packed", "packed/hr.bin"])
def test_a_folder_that_cannot_be_written_is_told(
    hr_folder: Path, tmp_path: Path, taken: str
) -> None:
    out = tmp_path / "packed"
    if taken == "packed":
        out.touch()  # a file
    else:
        (out / "hr.bin").mkdir(parents=True)

    with pytest.raises(OutputError, match=rf"The pairs cannot be written: .*{taken}, "):
        pack(hr_folder, out, scale=4)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        pack(tmp_path, tmp_path / "packed", scale=4)


def test_pictures_without_one_lr_pixel_are_refused(tmp_path: Path) -> None:
    write_landscapes(tmp_path / "hr", 2, 3, 3)

    with pytest.raises(InputError, match="smaller than 4x4"):
        pack(tmp_path / "hr", tmp_path / "packed", scale=4)


@pytest.mark.parametrize("file", ["pairs.json", "lr.bin", "hr.bin"])
@pytest.mark.parametrize("left", [None, 0, 300])
def test_a_damaged_folder_is_refused(
    hr_folder: Path, tmp_path: Path, file: str, left: int | None
) -> None:
    pack(hr_folder, tmp_path, scale=4)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    if left is not None:
        (tmp_path / file).write_bytes(content[:left])

    with pytest.raises(InputError, match="classsr data pack"):
        open_pairs(tmp_path).lr(14)
