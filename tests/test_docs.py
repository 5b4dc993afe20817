"""Pages that are made from the code say what the code says."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_on_the_command_line_is_what_the_code_makes() -> None:
    made = runpy.run_path(str(DOCS / "cli.py"))["page"]()

    assert (DOCS / "cli.md").read_text(encoding="utf-8") == made, "run: python docs/cli.py"
