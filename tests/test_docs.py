"""What the pages tell people to type works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.settings import PROJECT
from tests.conftest import TestHome

PAGES = [
    "README.md",
    "docs/analytics-engineer.md",
    "docs/marketer.md",
    "docs/operator.md",
]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def commands(page: str) -> list[str]:
    """The lines of a page's `sh` blocks, `make` only looked up, not run."""
    text = (PROJECT / page).read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    return [
        line.replace("make ", f"make --dry-run -C {PROJECT} ", 1)
        if line.startswith("make ")
        else line
        for line in lines
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_work(
    demo_home: TestHome, tmp_path: Path, page: str
) -> None:
    home = tmp_path / ".rekindle"
    shutil.copytree(demo_home.settings.root, home)
    # what a reader of these pages has is no demo, and runs at the wall clock
    (home / demo_home.settings.demo_marker.name).unlink()
    script = "\n".join(["set -euxo pipefail", *commands(page)])
    finished = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "REKINDLE_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert not finished.returncode, finished.stderr[-3000:]


@pytest.mark.parametrize(
    "page",
    sorted(
        str(path.relative_to(PROJECT))
        for folder in ("", "docs/", "docs/how-to/", "models/")
        for path in PROJECT.glob(f"{folder}*.md")
    ),
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    folder = (PROJECT / page).parent
    for target in LINK.findall((PROJECT / page).read_text()):
        assert (folder / target).exists(), f"{page} links to {target}"
