"""Every shipped experiment loads, and every slip in one is named with what was meant."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from classsr.errors import UsageError
from classsr.networks import BranchSpec
from classsr.training.config import load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.toml"))

VALID = """
name = "small"
seed = 1

[model]
scale = 4
branches = [{ network = "fsrcnn", width = 16 }, { network = "fsrcnn", width = 56 }]

[data]
validation_pictures = 2

[reference]
branch = { network = "fsrcnn", width = 56 }
schedule = { iterations = 10, batch = 16, learning_rate = 1e-3 }

[branch]
iterations = 20
batch = 16
learning_rate = 1e-3

[classifier]
iterations = 30
batch = 96
learning_rate = 1e-3

[joint]
iterations = 40
batch = 96
learning_rate = 2e-4

[loss]
l1 = 1000
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new, 1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    config = load_config(path)

    assert config.name
    assert len(config.model.branches) >= 2


def test_there_are_shipped_configs() -> None:
    assert "fsrcnn-x4.toml" in {path.name for path in CONFIGS}


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    text = changed("[branch]", "[[branch]]")

    config = load_config(write(tmp_path, text))

    assert config.model_dump(exclude_unset=True, mode="json") == tomllib.loads(text)


def test_what_is_left_out_is_the_papers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, changed("[loss]\nl1 = 1000\n", "")))

    loss = config.loss
    assert (loss.l1, loss.class_loss, loss.average_loss) == (2000, 1, 6)
    assert config.joint is not None
    assert config.joint.final_learning_rate == 1e-7


def without(*sections: str) -> str:
    text = VALID
    for section in sections:
        start = text.index(f"[{section}]")
        text = text[:start] + text[text.find("\n[", start) + 1 :]
    return text


def test_stages_may_be_left_out(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, without("reference", "classifier", "joint")))

    assert (config.reference, config.classifier, config.joint) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (without("classifier"), r"expected \[classifier\] beside \[joint\]"),
        (
            without("classifier", "joint") + "\n[errors]\npredict = 'calibration'\n",
            r"expected \[classifier\], which predict = 'calibration' keeps",
        ),
    ],
)
def test_a_stage_is_left_out_only_with_those_that_go_on_from_it(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        load_config(write(tmp_path, text))


def test_specs_name_the_branches_by_level(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, VALID))

    assert config.model.specs() == (BranchSpec("fsrcnn", 16, 4), BranchSpec("fsrcnn", 56, 4))


def branches(*iterations: int) -> str:
    """Text with an array of [[branch]] of so many iterations each."""
    start, end = VALID.index("[branch]"), VALID.index("[classifier]")
    table = "[[branch]]\niterations = {}\nbatch = 16\nlearning_rate = 1e-3\n"
    return VALID[:start] + "".join(table.format(count) for count in iterations) + VALID[end:]


def test_one_branch_schedule_serves_all_levels(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, VALID))

    assert [config.branch_schedule(level).iterations for level in range(2)] == [20, 20]


def test_every_level_may_have_a_branch_schedule_of_its_own(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, branches(7, 9)))

    assert [config.branch_schedule(level).iterations for level in range(2)] == [7, 9]


@pytest.mark.parametrize("iterations", [(), (7, 8, 9)])
def test_another_number_of_branch_schedules_is_refused(
    tmp_path: Path, iterations: tuple[int, ...]
) -> None:
    text = branches(*iterations) if iterations else "branch = []\n" + branches()

    with pytest.raises(UsageError, match=rf"one \[branch\] or 2 but got {len(iterations)}"):
        load_config(write(tmp_path, text))


def test_classes_have_patches_of_the_size_that_was_ranked(tmp_path: Path) -> None:
    text = VALID.replace("iterations = 20", "iterations = 20\npatch_size = 48")
    assert text != VALID

    with pytest.raises(UsageError, match=r"patches of 32 LR pixels, as they are ranked, .* got 48"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("iterations = 0", "start beside iterations = 0 and patches = 'routed'"),
        ("iterations = 20\npatches = 'routed'", "start beside iterations = 0 and patches"),
        (
            "iterations = 20\npatches = 'routed'\nstart = 'any'\npatch_size = 24",
            "patches of 32 LR pixels or more but got 24",
        ),
        (
            "iterations = 20\nround_weights = true\nprecision = '32-true'",
            "precision = 'bf16-mixed' beside round_weights",
        ),
    ],
)
def test_what_a_branch_is_asked_for_has_to_fit_together(
    tmp_path: Path, more: str, told: str
) -> None:
    text = VALID.replace("iterations = 20", more, 1)
    assert text != VALID

    with pytest.raises(UsageError, match=told):
        load_config(write(tmp_path, text))


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, VALID))

    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 5


@pytest.mark.parametrize(
    ("old", "new", "place", "meant"),
    [
        ("seed = 1", "seed = 1\nnmae = 'x'", "nmae", "name"),
        ("iterations = 20", "iteration = 20", "branch.0.iteration", "iterations"),
        ("batch = 96", "batch = 96\nlearnin_rate = 1", "classifier.learnin_rate", "learning_rate"),
        ("l1 = 1000", "clas_loss = 2", "loss.clas_loss", "class_loss"),
        ("[joint]", "[joints]", "joints", "joint"),
        ("[joint]", "[ranking]\nshare = [1]\n[joint]", "ranking.share", "shares"),
        ("[joint]", "[rankin]\n[joint]", "rankin", "ranking"),
        ('"fsrcnn", width = 16', '"fsrcnn", widht = 16', "model.branches.0.widht", "width"),
        ("= 2\n", "= 2\nvalidation_patchs = 3\n", "data.validation_patchs", "validation_patches"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known(
    tmp_path: Path, old: str, new: str, place: str, meant: str
) -> None:
    with pytest.raises(UsageError, match=r"In .*experiment\.toml") as caught:
        load_config(write(tmp_path, changed(old, new)))

    assert f"the key {place!r} is unknown (did you mean {meant!r}?)" in str(caught.value)


def test_a_key_like_no_other_is_refused_without_a_guess(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'xyzzy' is unknown") as caught:
        load_config(write(tmp_path, "xyzzy = 1\n" + VALID))

    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", width = 16", "", "Expected width for fsrcnn but got no sizes"),
        (
            "width = 16",
            "width = 16, depth = 3",
            "Expected width for fsrcnn but got width and depth",
        ),
        ('"fsrcnn", width = 16', '"bicubic", width = 16', "Expected no sizes for bicubic but got"),
    ],
)
def test_sizes_that_a_network_does_not_have_are_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(write(tmp_path, changed(old, new)))


def ranking(text: str) -> str:
    """The valid experiment with a section on the ranking."""
    return f"{VALID}\n[ranking]\n{text}\n"


def test_classes_are_equal_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, VALID))

    assert (config.ranking.shares, config.ranking.borders) == (None, None)


@pytest.mark.parametrize(
    ("text", "shares", "borders"),
    [
        ("shares = [0.3, 0.7]", (0.3, 0.7), None),
        ("borders = [35.15]", None, (35.15,)),
        ("", None, None),
    ],
)
def test_classes_may_be_cut_by_shares_or_borders(
    tmp_path: Path,
    text: str,
    shares: tuple[float, ...] | None,
    borders: tuple[float, ...] | None,
) -> None:
    config = load_config(write(tmp_path, ranking(text)))

    assert (config.ranking.shares, config.ranking.borders) == (shares, borders)


@pytest.mark.parametrize("third", ["0.334", "0.3333333"])
def test_shares_may_be_rounded_as_far_as_they_sum_to_1(tmp_path: Path, third: str) -> None:
    others = "0.333, 0.333" if third == "0.334" else f"{third}, {third}"
    text = ranking(f"shares = [{others}, {third}]")
    three = text.replace("branches = [", 'branches = [{ network = "bicubic" }, ', 1)

    config = load_config(write(tmp_path, three))

    assert config.ranking.shares is not None
    assert len(config.ranking.shares) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shares = [0.5, 0.5]\nborders = [30]",
            "'ranking' is wrong: expected shares or borders but got both",
        ),
        ("shares = [0.5, 0.6]", "'ranking' is wrong: expected shares that sum to 1 but got 1.1"),
        ("shares = [1.2, -0.2]", "'ranking.shares.1' is wrong"),
        ("shares = [0.2, 0.3, 0.5]", "expected 2 shares in [ranking] but got 3"),
        ("shares = []", "expected shares that sum to 1 but got 0"),
        ("borders = [27, 35]", "'ranking' is wrong: expected borders that fall but got [27.0, 35"),
        ("borders = [30, 30]", "expected borders that fall but got [30.0, 30.0]"),
        ("borders = [35, 27]", "expected 1 borders in [ranking] but got 2"),
        ("borders = [nan]", "'ranking.borders.0' is wrong"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load_config(write(tmp_path, ranking(text)))


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('name = "small"\n', "name"),
        ("scale = 4\n", "model.scale"),
        ("validation_pictures = 2\n", "data.validation_pictures"),
        ("branch = { network", "reference.branch"),
        ("iterations = 30\n", "classifier.iterations"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, line: str, place: str) -> None:
    start = VALID.index(line)
    end = VALID.index("\n", start) + 1 if line.startswith("branch") else start + len(line)

    with pytest.raises(UsageError, match=f"the key '{place}' is missing"):
        load_config(write(tmp_path, VALID[:start] + VALID[end:]))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("iterations = 20", "iterations = -1", "branch.0.iterations"),
        ("iterations = 20", "iterations = 2.5", "branch.0.iterations"),
        ("iterations = 20", "iterations = 20\nprecision = 'f16'", "branch.0.precision"),
        ("learning_rate = 2e-4", "learning_rate = 0", "joint.learning_rate"),
        ("scale = 4", "scale = 5", "model.scale"),
        ("width = 56 }]", "width = -1 }]", "model.branches.1.width"),
        ("{ network = 'fsrcnn', width = 16 }, ", "", "model.branches"),
        ("validation_pictures = 2", "validation_pictures = 0", "data.validation_pictures"),
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, old: str, new: str, place: str) -> None:
    with pytest.raises(UsageError, match=f"'{place}' is wrong"):
        load_config(write(tmp_path, changed(old.replace("'", '"'), new)))


@pytest.mark.parametrize("old", ['"fsrcnn", width = 16', '"fsrcnn", width = 56 }\nschedule'])
def test_an_unknown_network_is_refused_with_those_that_exist(tmp_path: Path, old: str) -> None:
    with pytest.raises(UsageError, match=r"network among .*fsrcnn.* but got 'fsrnn'"):
        load_config(write(tmp_path, changed(old, old.replace("fsrcnn", "fsrnn"))))


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*gone\.toml"):
        load_config(tmp_path / "gone.toml")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe\x00"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "experiment.toml").write_bytes(content)

    with pytest.raises(UsageError, match="is no TOML file"):
        load_config(tmp_path / "experiment.toml")
