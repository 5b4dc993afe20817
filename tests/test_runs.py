"""The scripts in runs/ use commands that exist, and the shortest of them goes through everything."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from PIL import Image

from classsr.cli import app
from classsr.model import bundled_models, find_model, open_model

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "runs").glob("*.sh"))
FIRST = "hr/flipped.png"  # of the pictures that smoke.sh cuts, by name
CONFIGS = sorted((ROOT / "configs").rglob("*.toml"))


def lines_of(script: Path) -> list[str]:
    """The script's lines without indent, those that go on after a backslash as one."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines()]


def commands_of(script: Path) -> list[list[str]]:
    """The arguments of every call of `classsr`, shell variables as they are written."""
    calls = [line for line in lines_of(script) if re.match(r"classsr\s", line)]
    return [shlex.split(line, comments=True)[1:] for line in calls]


def parse(arguments: list[str]) -> None:
    """Let the command line parse arguments without doing anything; it raises what it does not know."""
    command, name = typer.main.get_command(app), "classsr"
    while hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    command.make_context(name, arguments)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_command_is_one_that_the_command_line_knows(script: Path) -> None:
    commands = commands_of(script)

    assert len(commands) >= (1 if script.stem == "rebuild" else 5)
    for arguments in commands:
        parse(arguments)


@pytest.mark.parametrize(
    "line", ["data pick a b", "train branch c.toml --pairs p", "upscale a.png --fast"]
)
def test_a_command_that_does_not_exist_would_be_noticed(line: str) -> None:
    expected = "no command 'pick'|Missing parameter: run|No such option: --fast"
    with pytest.raises(Exception, match=expected):
        parse(line.split())


@pytest.mark.parametrize("script", ["train.sh", "smoke.sh"])
def test_every_stage_is_run_in_order(script: str) -> None:
    commands = commands_of(ROOT / "runs" / script)
    stages = [" ".join(c[:2]) for c in commands if c[0] in {"data", "train"}]

    assert list(dict.fromkeys(stages)) == [
        "data pack",
        "train reference",
        "train rank",
        "train branch",
        "train classifier",
        "train joint",
        "train errors",
    ]


def test_reproducing_trains_every_backbone_of_every_kind() -> None:
    script = (ROOT / "runs" / "reproduce.sh").read_text("utf-8")

    trained = set(re.findall(r"\$configs/(\w+)\$suffix\.toml", script))

    go_on = {"smoke", "compact-x2"}
    firsts = {config.stem for config in CONFIGS if not re.search(r"-\d$", config.stem)} - go_on
    assert trained == {stem.removesuffix("-x4") for stem in firsts}


@pytest.mark.parametrize("model", [name for name in bundled_models() if name != "bicubic"])
def test_every_released_model_can_be_rebuilt(model: str) -> None:
    script = (ROOT / "runs" / "rebuild.sh").read_text("utf-8")

    (found,) = re.findall(rf"^ *{model}\) parts=\((.*)\) halos=(\S+) ;;$", script, re.MULTILINE)

    parts, halos = found[0].split(), [int(halo) for halo in found[1].split(",")]
    configs = [tomllib.loads((ROOT / "configs" / f"{p}.toml").read_text("utf-8")) for p in parts]
    starts = [{branch.get("start") for branch in config["branch"]} for config in configs]
    trained = [f"trained/{part}/{part}" for part in parts]
    assert starts[0] == {None}
    for number, start in enumerate(starts[1:], start=1):
        assert trained[number - 1] in start  # or the part before would be for nothing
        assert start <= set(trained[:number])
    assert halos == [level.halo for level in find_model(model).config.levels]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run_and_stop_at_the_first_failure(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in lines_of(script)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_config_says_what_runs_it_how_long_and_how_well(config: Path) -> None:
    text = config.read_text("utf-8")
    command, *_ = re.findall(r"^# Command: (\S+)(.*)$", text, re.MULTILINE)

    assert (ROOT / command[0]).is_file()
    assert config.relative_to(ROOT).as_posix() in command[1] or config.stem == "smoke"
    assert re.search(r"^# Expected time: \S", text, re.MULTILINE)
    assert re.search(r"^# Expected score: \S", text, re.MULTILINE)


def smoke(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    python = shlex.quote(sys.executable)
    environment = {"CLASSSR": f"{python} -m classsr", "PYTHON": sys.executable, "WORK": str(work)}
    return subprocess.run(
        [ROOT / "runs" / "smoke.sh", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_smoke_run_goes_from_pictures_to_an_enlarged_picture(tmp_path: Path) -> None:
    done = smoke(tmp_path)

    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "enlarged.png") as enlarged, Image.open(tmp_path / FIRST) as small:
        enlarged.load()
        assert enlarged.size == (4 * small.width, 4 * small.height)
    assert open_model(tmp_path / "model").config.name == "smoke"
    assert re.search(r"^mean of 4 +\d+\.\d\d +\d+\.\d\d .* %", done.stdout, re.MULTILINE)
    assert str(tmp_path / "enlarged.png") in done.stdout.splitlines()[-1]


def test_the_smoke_run_takes_the_named_folder_and_stops_at_its_first_failure(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()

    done = smoke(tmp_path / "work", str(tmp_path / "empty"))

    assert done.returncode == 3
    assert f"{tmp_path / 'empty'} holds no" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "work" / "run").exists()
