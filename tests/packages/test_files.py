"""Which file is in which distribution, and that the same sources give the same bytes."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from authsvc import __version__
from authsvc.cli.deploy import _files
from release.packages import NotReproducibleError, build, compare, copy_sources
from tests.e2e.process import environment
from tests.packages.conftest import EPOCH

pytestmark = pytest.mark.slow  # The packages are built.
_LINK = re.compile(r"https://github\.com/authsvc/authsvc/blob/main/([^\s)#]+)")


def files_in(wheel: Path) -> set[str]:
    """Return the files that a wheel installs, without those that describe the distribution."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def wheels(built: Path) -> tuple[Path, Path]:
    """Return the wheels of the service and of the client."""
    return next(built.glob("authsvc-*.whl")), next(built.glob("authsvc_client-*.whl"))


def project(checkout: Path, directory: str) -> dict[str, Any]:
    return tomllib.loads((checkout / directory / "pyproject.toml").read_text("utf-8"))


def test_no_file_is_in_both(built: Path) -> None:
    """Otherwise an uninstallation of one would take files of the other."""
    service, client = map(files_in, wheels(built))
    assert service & client == set()
    assert "authsvc/__init__.py" in client
    assert "authsvc/cli/__init__.py" in service


def test_together_they_are_the_package(built: Path, checkout: Path) -> None:
    """Each file of the package, of deploy/ and of the protos is in one of them, and nothing else."""
    service, client = map(files_in, wheels(built))
    package = checkout / "src" / "authsvc"
    of_package = {
        f"authsvc/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    deployed = {name if name.startswith("protos/") else f"deploy/{name}" for name in _files()}
    assert {"deploy/systemd/authsvc.service", "protos/authsvc/v1/key_service.proto"} < deployed
    assert service | client == of_package | {f"authsvc/{name}" for name in deployed}


def test_whole_directories_belong_to_one(built: Path) -> None:
    """A file that changed its distribution would be deleted by an upgrade with pip."""
    service, client = (
        {name.split("/")[1] for name in files_in(wheel) if name.count("/") > 1} for wheel in wheels(built)
    )
    assert client == {"client", "model", "v1", "verify"}
    assert service & client == set()


def test_one_version(built: Path, checkout: Path) -> None:
    """The names have the version of the module, and the service requires the client of the same one."""
    assert {path.name.split("-")[1].removesuffix(".tar.gz") for path in built.iterdir()} == {__version__}
    service = project(checkout, ".")["project"]
    (pinned,) = (line for line in service["dependencies"] if line.startswith("authsvc-client"))
    assert pinned == f"authsvc-client=={__version__}"


def test_they_agree(checkout: Path) -> None:
    """On the Pythons, the licence, and the requirements: the service has all of the client."""
    service, client = (project(checkout, name)["project"] for name in (".", "clients/python"))
    for field in ("requires-python", "classifiers", "license"):
        assert service[field] == client[field]
    assert set(client["dependencies"]) < set(service["dependencies"])
    licences = [(checkout / name / "LICENSE").read_bytes() for name in (".", "clients/python")]
    assert licences[0] == licences[1]


def test_built_twice_they_are_the_same(built: Path, checkout: Path, tmp_path: Path) -> None:
    """In another directory, later, with other permissions, from a copy; and a difference is found."""
    copy_sources(checkout, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.py"):
        path.chmod(0o600)
    again = build(tmp_path / "copy", tmp_path / "again", epoch=EPOCH, umask=0o077)
    compare(sorted(built.iterdir()), again)
    again[0].write_bytes(again[0].read_bytes() + b"\0")
    with pytest.raises(NotReproducibleError, match=again[0].name):
        compare(sorted(built.iterdir()), again)


def test_the_source_distributions_build_the_same_wheels(built: Path, tmp_path: Path) -> None:
    """Whoever builds from them needs no repository."""
    for archive in built.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path / "sources", filter="data")
    for source in sorted((tmp_path / "sources").iterdir()):
        made = build(source, tmp_path / "wheels" / source.name, epoch=EPOCH, projects=["."])
        (wheel,) = (path for path in made if path.suffix == ".whl")
        assert wheel.read_bytes() == (built / wheel.name).read_bytes()


def test_the_pages_that_an_index_shows(checkout: Path) -> None:
    """They have links to documents of the repository, which are there, and no relative ones."""
    for directory in (".", "clients/python"):
        page = checkout / directory / project(checkout, directory)["project"]["readme"]
        text = page.read_text("utf-8")
        named = _LINK.findall(text)
        assert named
        assert [name for name in named if not (checkout / name).is_file()] == []
        assert re.findall(r"\]\((?!https://)[^)]*\)", text) == []


def test_the_client_needs_no_module_of_the_service(built: Path, tmp_path: Path) -> None:
    """Each module of its wheel can be imported without the wheel of the service.

    The packages of others are there, as in every environment with the service. Otherwise a module would fail
    because of them before it imports a module of the service.
    """
    _, client = wheels(built)
    shutil.unpack_archive(client, tmp_path, "zip")
    names = {name.removesuffix(".py").replace("/", ".") for name in files_in(client) if name.endswith(".py")}
    modules = sorted(name.removesuffix(".__init__") for name in names)
    assert {"authsvc.client", "authsvc.verify.hasher"} < set(modules)
    program = (
        "import importlib, sys, authsvc\n"
        "print(authsvc.__file__)\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        print(name, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.splitlines() == [str(tmp_path / "authsvc" / "__init__.py")]
