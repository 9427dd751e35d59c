"""What a service loads with the client: of the service authsvc only what judges a credential in memory."""

import re
import subprocess
import sys
from importlib import metadata, resources

# The packages that docs/client.md lists.
ENOUGH = {"grpcio", "protobuf", "googleapis-common-protos"}


def loaded() -> set[str]:
    """Return the modules that are loaded in a Python that has only imported the client."""
    return _loaded_by("import sys, authsvc.client; print(*sys.modules)")


def _loaded_by(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# Of `authsvc.verify`, what judges a credential in memory, and requires no package.
JUDGING = {"clock", "entry", "holdings", "judge", "key_uses", "lease", "prefix_cache", "question", "usage"}


def test_the_client_loads_nothing_of_the_service() -> None:
    """Of authsvc, it loads the messages, the model, and what answers from memory."""
    ours = {module for module in loaded() if module.startswith("authsvc.")}
    assert {module.split(".")[1] for module in ours} == {"client", "model", "v1", "verify"}
    prefix = "authsvc.verify."
    assert {module.removeprefix(prefix) for module in ours if module.startswith(prefix)} == JUDGING


def test_what_it_shares_with_the_service_requires_no_package() -> None:
    """A module of these that imported one would be loaded by everybody who uses the client."""
    shared = [*(f"authsvc.verify.{name}" for name in sorted(JUDGING)), "authsvc.model.client_hints"]
    program = f"import sys; [__import__(name) for name in {shared}]; print(*sys.modules)"
    with_them = {module.partition(".")[0] for module in _loaded_by(program)}
    without = {module.partition(".")[0] for module in _loaded_by("import sys, authsvc; print(*sys.modules)")}
    assert not (with_them - without) & metadata.packages_distributions().keys()


def _required_by(distribution: str) -> set[str]:
    return {
        re.split(r"[^\w-]", requirement)[0].lower() for requirement in metadata.requires(distribution) or ()
    }


def test_three_packages_are_enough() -> None:
    """None of the other packages that the service depends on is loaded."""
    assert _required_by("authsvc-client") == ENOUGH
    required = _required_by("authsvc") - {"authsvc-client"}
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
