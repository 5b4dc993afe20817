"""Write docs/cli.md from the code: python docs/cli.py."""

import html
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from classsr import errors
from classsr.about import ENVIRONMENT
from classsr.errors import ClassSRError

PAGE = Path(__file__).with_suffix(".md")

PURPOSE = {
    "CLASSSR_MODEL": "as `--model`",
    "CLASSSR_BACKEND": "as `--backend`",
    "CLASSSR_PRECISION": "as `--precision`",
    "CLASSSR_THREADS": "as `--threads`",
    "CLASSSR_CACHE": "folder in which what was measured on this machine is kept, else that of the system",
    "NO_COLOR": "if set to anything, nothing is coloured",
    "TMPDIR": "folder for temporary files: large pictures that have to be turned, pictures from and to pipes",
}

HEAD = """\
Written by `python docs/cli.py` from the code; a test compares.

What a command finds out goes to standard output, everything else (progress, one line for every picture, mistakes) to
standard error. On a terminal progress is a bar, elsewhere a line every five seconds. An option wins over its variable.

## Files

A result is prepared beside its place under a name that begins with `.classsr-` and ends in `.part`, and takes its own
name last, when it is complete and on the disk. Ctrl-C leaves nothing behind, a process that is killed at worst such a
`.part` file, which the next run into the same folder removes.

In an output folder for a folder of pictures, `.classsr-manifest.jsonl` records what has been done: the same command
again goes on where it stopped, and enlarges only what is new or changed. Hidden files and folders (whose names begin
with a dot) and symbolic links to folders are left alone. Without its record, or with other options, a result that
exists already is a mistake, unless `--skip-existing` or `--overwrite` says what to do.

One picture that fails does not stop the others; the last lines name all that failed, and the exit code is that of the
first.
"""


def exit_codes() -> Iterator[str]:
    """Yield the table of exit codes."""
    yield "| code | meaning |\n|---|---|"
    yield "| 0 | all is done |"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    told: set[int] = set()
    for kind in kinds:
        if issubclass(kind, ClassSRError) and kind.exit_code not in told:
            told.add(kind.exit_code)
            meaning = (kind.__doc__ or "").splitlines()[0].rstrip(".")
            yield f"| {kind.exit_code} | {meaning if kind is not ClassSRError else 'a mistake of ours'} |"
    yield "| 130 | Ctrl-C |"


def environment() -> Iterator[str]:
    """Yield the table of environment variables."""
    yield "| variable | meaning |\n|---|---|"
    for name in (*ENVIRONMENT, "NO_COLOR", "TMPDIR"):
        yield f"| `{name}` | {PURPOSE[name]} |"


def commands() -> str:
    """Return what the options' own texts say, one section a command."""
    told = subprocess.run(
        [sys.executable, "-m", "typer", "classsr.cli.app", "utils", "docs", "--name", "classsr"],
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    _, _, sections = told.stdout.partition("\n## ")
    lines = [line.rstrip() for line in f"## {sections}".splitlines()]
    return html.unescape("\n".join(lines)).replace("\n\n\n", "\n\n").strip()


def page() -> str:
    """Return the page."""
    parts = [
        "# Command line\n",
        HEAD,
        "## Exit codes\n",
        *exit_codes(),
        "\n## Environment\n",
        *environment(),
        "",
        commands(),
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
