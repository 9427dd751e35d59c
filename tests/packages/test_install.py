"""What pip installs, in fresh environments outside of the checkout: the service, the client, and both."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from authsvc import __version__
from authsvc.cli.deploy import _files
from release.sbom import InvalidSbomError, check_sbom, make_sbom
from tests.client.test_example import serving
from tests.e2e.process import Server, on_linux, running_program
from tests.packages.conftest import EPOCH
from tests.packages.environment import Environment, fresh, interpreter, required
from tests.packages.test_files import files_in, wheels

# Packages are installed, and Python compiles them when it first imports them.
pytestmark = [on_linux, pytest.mark.slow, pytest.mark.timeout(300)]

_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
_CLIENT = {"authsvc-client", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}


on_this_python = pytest.mark.parametrize("installed", [_HERE], indirect=True)


@dataclass(frozen=True)
class Installed:
    """The service in an environment of its own, and a directory to work in."""

    environment: Environment
    directory: Path


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13", "3.14"])
def installed(
    request: pytest.FixtureRequest, built: Path, checkout: Path, reachable_dir: Path
) -> Iterator[Installed]:
    """`pip install 'authsvc[embedded]'`, on each Python that there is."""
    python = interpreter(request.param)
    place = reachable_dir / f"installed-{request.param}"
    (place / "work").mkdir(parents=True, mode=0o755)
    environment = fresh(place / "environment", checkout, python)
    environment.require(*required(wheels(built)[0], "embedded"))
    environment.install(built, "authsvc[embedded]")
    # Here Python compiles the modules, which takes long on a busy machine, so that no wait includes it.
    subprocess.run([environment.authsvc, "serve", "--help"], check=True, stdout=subprocess.DEVNULL)
    yield Installed(environment, place / "work")
    shutil.rmtree(place)


async def test_it_serves_outside_of_a_checkout(installed: Installed, checkout: Path) -> None:
    """`authsvc dev` on this Python: its program creates a key, and the service verifies it."""
    environment, directory = installed.environment, installed.directory
    with running_program((environment.authsvc,), "dev", directory) as server:
        made = environment.run(
            *(environment.authsvc, "keys", "create", "acme", "Orders", "--scope", "orders:read"),
            cwd=directory,
            AUTHSVC_ADDRESS=server.address,
            AUTHSVC_DATA_DIR=str(server.data_dir),
        )
        assert made.code == 0, made.stderr
        async with server.client() as client:
            verdict = await client.VerifyKey(key_string=made.stdout.strip(), required_scopes=["orders:read"])
            assert verdict.valid
    assert str(checkout) not in server.stdout + server.stderr
    told = environment.run("-c", "import authsvc; print(authsvc.__file__)", cwd=directory)
    assert Path(told.stdout).is_relative_to(environment.directory)


@on_this_python
def test_it_has_what_an_operator_needs(installed: Installed, checkout: Path) -> None:
    """The files of deploy/ and the protos are those of the checkout, byte by byte."""
    environment, directory = installed.environment, installed.directory
    written = environment.run(environment.authsvc, "deploy", "show", ".", "--output", "files", cwd=directory)
    assert written.code == 0, written.stderr
    found = {path for path in (directory / "files").rglob("*") if path.is_file()}
    assert found == {directory / "files" / name for name in _files()}
    for name, path in _files().items():
        assert (directory / "files" / name).read_bytes() == path.read_bytes()


@on_this_python
def test_updating_the_client_alone_is_told(installed: Installed) -> None:
    """The program refuses to run with a client of another version, and names the remedy."""
    environment, directory = installed.environment, installed.directory
    (site,) = (environment.directory / "lib").glob("python*/site-packages")
    module = site / "authsvc" / "__init__.py"
    text = module.read_text("utf-8")
    module.write_text(text.replace(f'"{__version__}"', '"99.0"'), "utf-8")
    try:
        refused = environment.run(environment.authsvc, "serve", cwd=directory)
    finally:
        module.write_text(text, "utf-8")
    assert (refused.code, refused.stdout) == (1, "")
    assert f"pip install authsvc=={__version__}" in refused.stderr
    assert "authsvc-client 99.0" in refused.stderr


@pytest.fixture(scope="module")
def client(built: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install authsvc-client`, on this Python."""
    environment = fresh(tmp_path_factory.mktemp("client") / "environment", checkout)
    environment.require(*required(wheels(built)[1]))
    environment.install(built, "authsvc-client")
    return environment


def test_the_client_alone(client: Environment, dev: Server, checkout: Path, tmp_path: Path) -> None:
    """It brings grpcio and protobuf and nothing else, and the example of its documentation works."""
    assert client.distributions() == _CLIENT
    (tmp_path / "verifier.key").write_text(dev.admin_key, "utf-8")
    made = dev.run("keys", "create", "acme", "Orders", "--scope", "orders:read", "--scope", "orders:write")
    call = checkout / "examples/orders/call.py"
    with serving(checkout, tmp_path, dev.address, tmp_path / "verifier.key", client.python) as address:
        for key_string, code in ((made.stdout.strip(), 0), ("authsvc_live_x", 1)):
            done = client.run(
                call, "Place", "a book", "--address", address, cwd=tmp_path, ORDERS_KEY=key_string
            )
            assert done.code == code, done.stderr
    missing = client.run("-c", "import authsvc.cli", cwd=tmp_path)
    assert "No module named 'authsvc.cli'" in missing.stderr


def test_its_sbom(client: Environment, checkout: Path, tmp_path: Path) -> None:
    """It names the packages with their versions and what requires what, and is the same each time."""
    pyproject = checkout / "clients/python/pyproject.toml"
    texts = []
    for name in ("one", "two"):
        make_sbom(client.python, pyproject, "authsvc-client", __version__, tmp_path / name, epoch=EPOCH)
        texts.append((tmp_path / name).read_text("utf-8"))
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    document = json.loads(texts[0])
    assert document["metadata"]["component"]["purl"] == f"pkg:pypi/authsvc-client@{__version__}"
    found = {
        component["name"].replace("_", "-"): component["version"] for component in document["components"]
    }
    assert found.keys() == _CLIENT - {"authsvc-client"}
    lock = (checkout / "requirements.lock").read_text("utf-8")
    assert f"grpcio=={found['grpcio']} " in lock
    (root,) = (each for each in document["dependencies"] if each["ref"] == "root-component")
    assert {ref.partition("==")[0] for ref in root["dependsOn"]} == {
        *("grpcio", "protobuf", "googleapis-common-protos")
    }
    with pytest.raises(InvalidSbomError):
        check_sbom(texts[0].replace('"bomFormat"', '"bomForm"'))


def test_one_after_the_other(built: Path, checkout: Path, tmp_path: Path) -> None:
    """The service is installed beside the client, updated with it, and removed; the client is unharmed."""
    service, client = wheels(built)
    service_files, client_files = files_in(service), files_in(client)
    environment = fresh(tmp_path / "environment", checkout)
    environment.pip("install", "--no-deps", client)
    assert environment.ours() == client_files
    environment.pip("install", "--no-deps", service)
    assert environment.ours() == service_files | client_files
    # In the order of an update: pip uninstalls and installs one distribution after the other.
    environment.pip("install", "--no-deps", "--force-reinstall", client, service)
    assert environment.ours() == service_files | client_files
    environment.pip("uninstall", "--yes", "authsvc")
    assert environment.ours() == client_files
    environment.pip("uninstall", "--yes", "authsvc-client")
    assert environment.ours() == set()
