"""What a service loads with the client: nothing of the service authsvc."""

import re
import subprocess
import sys
from importlib import metadata, resources

# The packages that docs/client.md lists.
ENOUGH = {"grpcio", "protobuf", "googleapis-common-protos"}


def loaded() -> set[str]:
    """Return the modules that are loaded in a Python that has only imported the client."""
    program = "import sys, authsvc.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_client_loads_nothing_of_the_service() -> None:
    """Of authsvc, it loads only the messages."""
    ours = {module for module in loaded() if module.startswith("authsvc.")}
    assert {module.split(".")[1] for module in ours} == {"client", "v1"}


def test_three_packages_are_enough() -> None:
    """None of the other packages that the service depends on is loaded."""
    required = {
        re.split(r"[^\w-]", requirement)[0].lower() for requirement in metadata.requires("authsvc") or ()
    }
    assert required > ENOUGH
    provided_by = metadata.packages_distributions()
    # gRPC itself loads its companion packages if they are installed.
    names = {module.partition(".")[0] for module in loaded()}
    for name in {name for name in names if not name.startswith("grpc_")}:
        providers = {provider.lower() for provider in provided_by.get(name, ())}
        assert not providers & required or providers & ENOUGH, name


def test_its_types_are_told() -> None:
    """The package is marked as typed; otherwise type checkers would ignore it."""
    assert resources.files("authsvc").joinpath("py.typed").is_file()
