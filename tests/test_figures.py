"""Figures show what was measured: the shares that they print, the colours that they fill, nothing cut off.

Pillow reads them back. How they look is for people to judge.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from classsr.data.pairs import Pairs, pack
from classsr.data.patches import Patches, find_patches, read_patches
from classsr.data.ranking import Provenance, Ranking, save_ranking
from classsr.errors import InputError, OutputError
from classsr.figures import ranking as ranking_figure
from classsr.figures.ranking import Ranked, draw_ranking, montage, open_ranked
from classsr.figures.sheet import name_runs, run_looks
from classsr.figures.training import draw_training, read_courses
from classsr.routing_map import COLOURS
from pictures import Array, landscape, noise, pairs_in_memory, write_landscapes

WIDTH = 1200
GREEN = (0, 158, 115)  # the line of the second run


def pixels_of(path: Path) -> Array:
    """The figure's RGB; a reader that knows nothing of matplotlib."""
    with Image.open(path) as opened:
        opened.load()
        assert opened.mode == "RGB"
        return np.asarray(opened)


def count(pixels: Array, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((pixels == colour).all(axis=2).sum())


def assert_nothing_is_cut_off(pixels: Array) -> None:
    edges = (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])
    assert all((edge == 255).all() for edge in edges)


# --- The ranking ---


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return pairs_in_memory([landscape(96, 240, seed=n) for n in range(3)], scale=2)


@pytest.fixture(scope="module")
def patches(pairs: Pairs) -> Patches:
    return find_patches(pairs, np.arange(3), size=16, step=8)


def ranked(
    pairs: Pairs, patches: Patches, *borders: float, name: str = "run", shift: float = 0.0
) -> Ranked:
    """Patches between 15 and 55 dB, every PSNR as often as every other, in no order."""
    psnr = np.linspace(15, 55, len(patches), dtype=np.float32) + np.float32(shift)
    np.random.default_rng(0).shuffle(psnr)
    return Ranked(name, Ranking(patches, psnr, borders), pairs)


# Height in inches at 150 dpi: panel 3.2, examples as high as 2 of so many across are, title 0.4, two rows of 0.6.
@pytest.mark.parametrize(
    ("borders", "across"),
    [
        ((30.0,), 5),
        ((40.0, 25.0), 3),
        ((45.0, 40.0, 35.0, 20.0), 2),
        ((50.0, 45.0, 40.0, 35.0, 30.0, 25.0, 20.0), 2),
    ],
)
def test_the_figure_of_a_ranking_shows_every_level(
    pairs: Pairs, patches: Patches, tmp_path: Path, borders: tuple[float, ...], across: int
) -> None:
    draw_ranking([ranked(pairs, patches, *borders)], tmp_path / "a.png")

    pixels = pixels_of(tmp_path / "a.png")
    levels = len(borders) + 1
    examples = (8 / levels - 0.16) * 2 / across
    assert pixels.shape == (round(150 * (3.2 + 0.4 + examples + 1.2)), WIDTH, 3)
    assert all(count(pixels, COLOURS[level]) > 500 for level in range(levels))  # the frames
    assert_nothing_is_cut_off(pixels)


def test_the_share_of_smooth_patches_is_a_hand_count(
    pairs: Pairs, patches: Patches, tmp_path: Path
) -> None:
    first = ranked(pairs, patches, 40.0, 25.0, name="first")
    second = ranked(pairs, patches, 30.0, 20.0, name="second", shift=5.0)

    found = draw_ranking([first, second], tmp_path / "a.png")

    by_hand = [
        sum(1 for psnr in each.ranking.psnr.tolist() if psnr >= 40) for each in (first, second)
    ]
    assert [round(each.share * each.patches) for each in found] == by_hand
    assert by_hand[1] > by_hand[0]
    assert [each.border for each in found] == [40.0, 40.0]  # that of the first, for all


def test_the_share_is_printed_with_what_it_was_counted_from(tmp_path: Path) -> None:
    place = np.zeros(8, np.int32)
    pairs = pairs_in_memory([noise(64, 64, 3)], scale=2)
    psnr = np.array([50, 40, 35.15, 35.1, 30, 28, 20, 19], np.float32)
    patches = Patches(place, place, place, size=16)
    each = Ranked("div2k", Ranking(patches, psnr, (36.0, 29.0)), pairs)

    (found,) = draw_ranking([each], tmp_path / "a.png", smooth=35.0)

    assert found.line() == "div2k: 50.0 % of 8 patches are smooth (at least 35.00 dB)"


def test_several_data_sets_have_lines_of_their_own(
    pairs: Pairs, patches: Patches, tmp_path: Path
) -> None:
    sets = [ranked(pairs, patches, 40.0, 25.0, name=n, shift=s) for n, s in (("a", 0), ("b", 4))]

    draw_ranking(sets[:1], tmp_path / "one.png")
    draw_ranking(sets, tmp_path / "two.png", smooth=33.0)

    one, two = pixels_of(tmp_path / "one.png"), pixels_of(tmp_path / "two.png")
    assert count(one, GREEN) == 0
    assert count(two, GREEN) > 1000
    assert_nothing_is_cut_off(two)


def test_the_examples_of_a_level_run_from_its_easiest_to_its_hardest(
    pairs: Pairs, patches: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = ranked(pairs, patches, 40.0, 25.0)
    shown: list[list[float]] = []
    psnr_of = {
        place: psnr
        for *place_, psnr in zip(
            patches.picture, patches.y, patches.x, each.ranking.psnr.tolist(), strict=True
        )
        for place in [tuple(place_)]
    }

    def recorded(pairs: Pairs, chosen: Patches) -> tuple[Array, Array]:
        places = zip(chosen.picture, chosen.y, chosen.x, strict=True)
        shown.append([psnr_of[place] for place in places])
        return read_patches(pairs, chosen)

    monkeypatch.setattr(ranking_figure, "read_patches", recorded)
    draw_ranking([each], tmp_path / "a.png")

    assert [len(level) for level in shown] == [6, 6, 6]
    for level, (low, high) in zip(shown, [(40, 55), (25, 40), (15, 25)], strict=True):
        sixth = (high - low) / 6  # examples from the middle of every sixth
        expected = [high - sixth * (n + 0.5) for n in range(6)]
        assert level == pytest.approx(expected, abs=sixth / 2)


def test_a_montage_shows_the_pixels_as_they_are() -> None:
    patches = noise(5, 8, 8, 3)

    sheet = montage(patches, across=3, down=2)

    assert sheet.shape == (28, 40, 3)
    for n, (y, x) in enumerate([(4, 4), (4, 16), (4, 28), (16, 4), (16, 16)]):
        np.testing.assert_array_equal(sheet[y : y + 8, x : x + 8], patches[n])
        sheet[y : y + 8, x : x + 8] = 255
    assert (sheet == 255).all()


def test_a_level_without_patches_is_drawn_empty(
    pairs: Pairs, patches: Patches, tmp_path: Path
) -> None:
    draw_ranking([ranked(pairs, patches, 90.0, 80.0)], tmp_path / "a.png")

    assert pixels_of(tmp_path / "a.png").shape[1] == WIDTH


def test_rankings_are_opened_with_their_pairs(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "two")]
    folders = [tmp_path / f"pairs of {run.name}" for run in runs]
    for run, folder, width in zip(runs, folders, (240, 256), strict=True):
        write_run(run, folder, width=width)

    opened = open_ranked(runs, folders)

    assert [each.name for each in opened] == ["one", "two"]
    assert [each.pairs.hr(0).shape[1] for each in opened] == [240, 256]
    with pytest.raises(InputError, match="made from other pairs"):
        open_ranked(runs, folders[::-1])


def write_run(run: Path, folder: Path, *, width: int = 240) -> None:
    """Write a run with a ranking of two levels, and its pairs in `folder`."""
    hr = write_landscapes(run / "hr", 1, 96, width)
    pairs = pack(hr, folder, scale=2, shrinks=(1.0,))
    patches = find_patches(pairs, np.arange(1), size=16, step=8)
    psnr = np.linspace(20, 40, len(patches), dtype=np.float32)
    provenance = Provenance(pairs.checksum, "")
    save_ranking(Ranking(patches, psnr, (30.0,), provenance), run / "ranking.npz")


# --- Training ---


def scores(iteration: int, *shares: float, **more: float) -> dict[str, float]:
    """One validation of stages 2 and 3."""
    named = {f"share_{level}": share for level, share in enumerate(shares)}
    return {"iteration": iteration, "psnr": 25 + iteration / 1e4, **named, **more}


def write_metrics(folder: Path, lines: list[dict[str, float]]) -> None:
    """Write a stage's metrics.jsonl, with the losses that stand between the scores."""
    folder.mkdir(parents=True, exist_ok=True)
    losses = {"iteration": 50, "loss": 2.5, "learning_rate": 1e-3}
    text = "".join(json.dumps(line) + "\n" for line in [losses, *lines])
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two levels through all stages; half of the patches in each level, always."""
    folder = tmp_path / "run"
    for level in range(2):
        branch = [{"iteration": n, "psnr": 40 - 9 * level + n / 1e4} for n in (100, 200, 300)]
        write_metrics(folder / f"branch-{level}", branch)
    write_metrics(folder / "classifier", [scores(n, 0.25, 0.75, cost=0.8) for n in (100, 200)])
    write_metrics(folder / "joint", [scores(n, 0.25, 0.75, cost=0.7) for n in (100, 200)])
    return folder


def test_stage_three_follows_stage_two(run: Path) -> None:
    (course,) = read_courses([run])

    assert [line["iteration"] for line in course.together] == [100, 200, 300, 400]
    assert [line["cost"] for line in course.together] == [0.8, 0.8, 0.7, 0.7]
    assert course.joint_from == 200
    assert course.levels == 2
    assert [line["psnr"] for line in course.branches[1]] == [31.01, 31.02, 31.03]


@pytest.mark.parametrize(("missing", "kept"), [("joint", 200), ("classifier", 200)])
def test_one_of_stages_two_and_three_is_enough(run: Path, missing: str, kept: float) -> None:
    shutil.rmtree(run / missing)

    (course,) = read_courses([run])

    assert [line["iteration"] for line in course.together][-1] == kept
    assert course.joint_from is None


def test_a_line_that_is_being_written_is_left_for_later(run: Path) -> None:
    with (run / "joint" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 300, "ps')

    (course,) = read_courses([run])

    assert len(course.together) == 4


@pytest.mark.parametrize("line", ["{'iteration': 1}", "[1, 2", '{"iteration": 1, "psnr": null}'])
def test_damaged_metrics_are_refused(run: Path, line: str) -> None:
    (run / "joint" / "metrics.jsonl").write_text(f"{line}\n", encoding="utf-8")

    with pytest.raises(InputError, match=r"joint.metrics\.jsonl is damaged"):
        read_courses([run])


@pytest.mark.parametrize("has_losses", [False, True])
def test_a_run_that_measured_nothing_is_refused(tmp_path: Path, has_losses: bool) -> None:
    if has_losses:
        write_metrics(tmp_path / "branch-0", [])

    with pytest.raises(InputError, match="holds no validation of any stage"):
        read_courses([tmp_path])


def draw(tmp_path: Path, *runs: Path) -> Array:
    draw_training(read_courses(runs), tmp_path / "a.png")
    return pixels_of(tmp_path / "a.png")


# Heights in inches: branches 1.5, PSNR 1.8, cost 1.4, shares 1.2, and 0.6 more for each row.
ALL = 1.5 + 1.8 + 1.4 + 1.2 + 4 * 0.6


def test_the_figure_of_a_training_has_a_panel_for_everything(run: Path, tmp_path: Path) -> None:
    pixels = draw(tmp_path, run)

    assert pixels.shape == (round(150 * ALL), WIDTH, 3)
    assert_nothing_is_cut_off(pixels)


@pytest.mark.parametrize(
    ("stages", "height"),
    [
        (("branch-0", "branch-1"), ALL - 1.5 - 0.6),
        (("branch-0",), ALL),
        (("classifier", "joint"), 1.5 + 0.6),
    ],
)
def test_panels_without_anything_to_show_are_left_out(
    run: Path, tmp_path: Path, stages: tuple[str, ...], height: float
) -> None:
    for stage in stages:
        shutil.rmtree(run / stage)

    pixels = draw(tmp_path, run)

    assert pixels.shape == (round(150 * height), WIDTH, 3)
    assert_nothing_is_cut_off(pixels)


def test_metrics_from_before_costs_were_measured_are_drawn_without(
    run: Path, tmp_path: Path
) -> None:
    for stage in ("classifier", "joint"):
        write_metrics(run / stage, [scores(n, 0.25, 0.75) for n in (100, 200)])

    pixels = draw(tmp_path, run)

    assert pixels.shape == (round(150 * (ALL - 1.4 - 0.6)), WIDTH, 3)


def test_the_areas_of_the_levels_are_their_shares(run: Path, tmp_path: Path) -> None:
    pixels = draw(tmp_path, run)

    easy, hard = count(pixels, COLOURS[0]), count(pixels, COLOURS[1])
    assert easy / (easy + hard) == pytest.approx(0.25, abs=0.01)


def test_two_runs_are_told_apart(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    write_metrics(other / "joint", [scores(n, 0.5, 0.5) for n in (100, 200, 300)])

    alone = draw(tmp_path, run)
    (tmp_path / "a.png").unlink()
    both = draw(tmp_path, run, other)

    assert both.shape == (round(150 * (ALL + 1.2 + 0.6)), WIDTH, 3)
    assert count(alone, GREEN) == 0
    assert count(both, GREEN) > 500
    assert_nothing_is_cut_off(both)


def test_eight_levels_beside_two_and_long_names_fit(run: Path, tmp_path: Path) -> None:
    other = tmp_path / ("a run with a name that is as long as names of runs may well become" * 2)
    for level in range(8):
        write_metrics(other / f"branch-{level}", [{"iteration": 100_000, "psnr": 30.0}])
    write_metrics(other / "joint", [scores(n * 1000, *[1 / 8] * 8) for n in range(1, 60)])

    pixels = draw(tmp_path, run, other)

    assert pixels.shape == (round(150 * (ALL + 1.5 + 1.2 + 2 * 0.6)), WIDTH, 3)
    assert_nothing_is_cut_off(pixels)


def test_a_single_validation_is_drawn(tmp_path: Path) -> None:
    write_metrics(tmp_path / "run" / "classifier", [scores(100, 0.5, 0.5, cost=0.5)])

    pixels = draw(tmp_path, tmp_path / "run")

    assert_nothing_is_cut_off(pixels)


# --- The sheet ---


def test_runs_are_named_by_their_folder_where_that_tells_them_apart() -> None:
    runs = [Path("a/fsrcnn"), Path("a/carn"), Path("b/carn")]

    assert name_runs(runs) == ["fsrcnn", "a/carn", "b/carn"]
    assert name_runs([Path()]) == [Path.cwd().name]


def test_a_long_name_of_a_run_is_known_by_its_end() -> None:
    (name,) = name_runs([Path("n" * 61 + "end")])

    assert name == "…" + "n" * 56 + "end"


def test_twenty_runs_look_different() -> None:
    looks = {tuple(look.values()) for look in run_looks(20)}

    assert len(looks) == 20


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a.webp"])
def test_a_figure_may_have_the_format_of_a_picture(run: Path, tmp_path: Path, name: str) -> None:
    draw_training(read_courses([run]), tmp_path / name)

    with Image.open(tmp_path / name) as opened:
        assert opened.size == (WIDTH, round(150 * ALL))


@pytest.mark.parametrize("name", ["there.png", "absent/a.png", "a.pdf"])
def test_a_figure_that_cannot_be_written_there_is_refused(
    run: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")

    with pytest.raises(OutputError, match=Path(name).name):
        draw_training(read_courses([run]), tmp_path / name)

    assert (tmp_path / "there.png").read_bytes() == b"mine"


def test_a_figure_replaces_another_when_that_is_allowed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    draw_training(read_courses([run]), tmp_path / "a.png", overwrite=True)

    assert pixels_of(tmp_path / "a.png").shape[1] == WIDTH


def test_settings_of_matplotlib_are_neither_used_nor_changed(run: Path, tmp_path: Path) -> None:
    draw_training(read_courses([run]), tmp_path / "plain.png")

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        draw_training(read_courses([run]), tmp_path / "other.png")
        assert matplotlib.rcParams["font.size"] == 30

    np.testing.assert_array_equal(
        pixels_of(tmp_path / "other.png"), pixels_of(tmp_path / "plain.png")
    )


@pytest.mark.slow
def test_no_display_is_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path / "run", tmp_path / "pairs")
    command = [sys.executable, "-W", "error", "-m", "classsr", "figure", "ranking"]
    command += [str(tmp_path / "run"), "--pairs", str(tmp_path / "pairs")]

    done = subprocess.run(
        [*command, "-o", str(tmp_path / "a.png")],
        env={k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"MPLBACKEND": "tkagg"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run: ")
    assert pixels_of(tmp_path / "a.png").shape[1] == WIDTH
