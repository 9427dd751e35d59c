"""The workflow of a release: valid, without tokens that somebody has to keep, and with few permissions."""

import re
import subprocess
from pathlib import Path

import pytest

# Only the actions that are named by a tag, as the first lines of release.yml say.
_PINNED = re.compile(r"^[\w.-]+/[\w./-]+@(?:[0-9a-f]{40}|v\d+|release/v\d+)$")


@pytest.fixture
def workflow(checkout: Path) -> str:
    path = checkout / ".github/workflows/release.yml"
    return path.read_text("utf-8")


def test_the_workflows_are_valid(checkout: Path) -> None:
    """By actionlint, which knows the syntax, the contexts, the outputs of jobs, and the permissions."""
    program = checkout / ".tools" / "release" / "actionlint"
    if not program.exists():
        pytest.skip(
            "no .tools/release/actionlint: GOBIN=$PWD/.tools/release go install "
            "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
        )
    files = sorted((checkout / ".github/workflows").glob("*.yml"))
    done = subprocess.run([program, "-no-color", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_has_no_tokens_to_keep(workflow: str) -> None:
    """The index is reached by OpenID Connect. The one secret is that of the run, which GitHub makes."""
    assert set(re.findall(r"secrets\.(\w+)", workflow)) == {"GITHUB_TOKEN"}
    assert "password: ${{ secrets.GITHUB_TOKEN }}" in workflow
    assert "\npermissions: {}\n" in workflow


def test_actions_are_named_by_their_versions(workflow: str) -> None:
    """None is named by a branch such as main."""
    used = re.findall(r"^ +(?:- )?uses: ([^.\s]\S+)", workflow, re.MULTILINE)
    assert len(used) > 10
    assert [name for name in used if not _PINNED.match(name)] == []
