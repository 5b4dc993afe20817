"""Pages that are made from the code say what the code says."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_page_on_the_command_line_is_what_the_code_makes() -> None:
    made = runpy.run_path(str(DOCS / "cli.py"))["page"]()

    assert (DOCS / "cli.md").read_text(encoding="utf-8") == made, "run: python docs/cli.py"


def test_every_test_that_the_readme_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "README.md").read_text("utf-8"))

    assert len(named) > 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text("utf-8"), f"{file} has no {test}"
