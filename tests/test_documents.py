"""Documents: their commands show no key, their links are valid, and they are complete."""

import re
import sys
from pathlib import Path

import pytest

from authsvc.cli import service
from authsvc.config.settings import Settings, secret_names
from authsvc.process.admin.pages import about
from tests.conftest import Clock, serving

_DOCUMENTS = (
    "README.md",
    "docs/**/*.md",
    "deploy/**/*",
    "examples/**/*",
    "clients/*.md",
    "clients/*/*.md",
    "src/authsvc/cli/*.py",
)
# A command that prints a key string, or text that contains one, which goes into a file.
_INTO_A_FILE = re.compile(
    r"(?:authsvc\S* (?:keys (?:create|rotate)|webhooks (?:create|rotate-secret)|bootstrap)|\.key\))"
    r"[^`\n]*?> *[\w./-]+"
)
# A program, not a shell builtin, with a secret that the shell expands in its arguments.
_ARGUMENT = re.compile(
    r"(?:curl|grpcurl|psql|authsvc)\b[^\n|;]*(?:-H|-d|--header|--data\S*|-u|--user|-v)[ =]*"
    r"\"(?:\\.|[^\"\\\n])*\$[({]?[\w(]*(?:key|KEY|token|TOKEN|password|PASSWORD|cat )"
)


def _lines(checkout: Path) -> list[str]:
    """Return all lines of all documents, with lines that a backslash continues joined."""
    files = {file for pattern in _DOCUMENTS for file in checkout.glob(pattern) if file.is_file()}
    assert len(files) > 20
    texts = [file.read_text("utf-8").replace("\\\n", " ") for file in sorted(files) if file.suffix != ".pyc"]
    return "\n".join([*texts, service._WELCOME]).splitlines()


def test_files_that_hold_keys(checkout: Path) -> None:
    """They are created so that no other user can read them, not even briefly."""
    found = [line for line in _lines(checkout) if _INTO_A_FILE.search(line)]
    assert len(found) >= 10
    assert [line for line in found if "umask 077" not in line] == []


def test_no_key_in_a_list_of_processes(checkout: Path) -> None:
    """A secret is passed to a program by its environment, its standard input or a file."""
    assert [line for line in _lines(checkout) if _ARGUMENT.search(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        'grpcurl -plaintext -H "authorization: Bearer $(cat .data/admin.key)" 127.0.0.1:50051 list',
        'curl -si -H "authorization: Bearer $key" http://127.0.0.1:8080/',
        r'grpcurl -d "{\"key_string\": \"$(cat x.key)\"}" 127.0.0.1:50051 list',
    ],
)
def test_it_would_be_found(line: str) -> None:
    """The previous form in documents."""
    assert _ARGUMENT.search(line)


_WIDTH = 100


def _markdown(checkout: Path) -> list[Path]:
    return sorted(
        [
            *checkout.glob("*.md"),
            *checkout.glob("clients/*.md"),
            *checkout.glob("clients/*/*.md"),
            *(file for top in ("docs", "deploy", "examples") for file in (checkout / top).rglob("*.md")),
        ]
    )


def _anchors(text: str) -> set[str]:
    """Return the anchors of the headings, in GitHub's form."""
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)", outside, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_lines_fit(checkout: Path) -> None:
    """Commands as well, which the formatter does not fold; only tables are wider."""
    wide = [
        f"{file.relative_to(checkout)}:{number}"
        for file in _markdown(checkout)
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if len(line) > _WIDTH and not line.startswith("|")
    ]
    assert wide == []


def test_links_lead_somewhere(checkout: Path) -> None:
    """Each relative link leads to a file or directory, and to a heading in it."""
    broken = []
    for file in _markdown(checkout):
        for target in re.findall(r"\]\(([^()\s]+)\)", file.read_text("utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (file.parent / path).resolve() if path else file
            if not found.exists() or (anchor and anchor not in _anchors(found.read_text("utf-8"))):
                broken.append(f"{file.relative_to(checkout)}: {target}")
    assert broken == []


def test_the_table_of_settings_is_complete(checkout: Path) -> None:
    """docs/settings.md has each setting once, and no other."""
    text = (checkout / "docs/settings.md").read_text("utf-8")
    documented = re.findall(r"^\| `(AUTHSVC_\w+)` \|", text, re.MULTILINE)
    names = [*Settings.model_fields, *(f"{name}_file" for name in secret_names())]
    assert sorted(documented) == sorted(f"AUTHSVC_{name.upper()}" for name in names)


async def test_the_table_of_metrics_is_complete(database_url: str, clock: Clock, checkout: Path) -> None:
    """docs/operations.md has each metric of workers, the notifier and the admin listener, and no other."""
    async with serving(database_url, clock, http_listen="127.0.0.1:0", web_listen="127.0.0.1:0") as service:
        families = [*service.app.metrics.registry.collect(), *service.notifier_registry.collect(), *about({})]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    chapter = (checkout / "docs/operations.md").read_text("utf-8").partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\|([^|]*)\|", chapter.partition("\n## ")[0], re.MULTILINE)
    # One exists only with a certificate, and those of the process on Linux.
    documented = set(re.findall(r"`((?:authsvc|process)_\w+)", "".join(rows))) - {
        "authsvc_certificate_seconds"
    }
    if sys.platform != "linux":
        documented = {name for name in documented if not name.startswith("process_")}
    assert documented == names


def test_decisions_bear_the_numbers_of_their_files(checkout: Path) -> None:
    """docs/adr/0017-x.md begins with `# 17. `; numbers have no gap."""
    files = sorted((checkout / "docs/adr").glob("*.md"))
    headings = [int(file.read_text("utf-8").removeprefix("# ").partition(".")[0]) for file in files]
    assert headings == [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))


def test_the_threat_model_names_tests_that_there_are(checkout: Path) -> None:
    """Each file and each function; a file may be given without its directory."""
    texts = {file.as_posix(): file.read_text("utf-8") for file in (checkout / "tests").rglob("test_*.py")}
    missing = []
    document = (checkout / "docs/threat-model.md").read_text("utf-8")
    named = set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)?(?:::)?(test_\w+)?`", document)) - {("", "")}
    assert len(named) > 100
    for file, function in named:
        places = (
            [text for path, text in texts.items() if path.endswith(f"/{file}")] if file else texts.values()
        )
        if not any(f"def {function}(" in text if function else True for text in places):
            missing.append(f"{file}::{function}")
    assert missing == []
