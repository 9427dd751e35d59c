"""The wheels: what they install, and that a process may also have another buf/validate/validate.proto."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

VALIDATE = "buf/validate/validate.proto"
# What a service with rules in its own messages does.
PROGRAM = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)

from buf.validate import validate_pb2
assert validate_pb2.__file__.startswith(sys.argv[1])
options = validate_pb2.FieldRules(string=validate_pb2.StringRules(min_len=3))
assert validate_pb2.FieldRules.FromString(options.SerializeToString()) == options

from authsvc.model.errors import InvalidArgument
from authsvc.rpc.validation import validator
from authsvc.v1.key_service_pb2 import CreateKeyRequest
try:
    validator(CreateKeyRequest.DESCRIPTOR)(CreateKeyRequest(owner_id="a b", display_name="x"))
except InvalidArgument as error:
    print(*(f"{violation.field} {violation.rule}" for violation in error.violations))
"""


@pytest.fixture(scope="module", params=["the same", "another"])
def theirs(request: pytest.FixtureRequest, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a foreign generated `buf.validate`, of the same version or another one."""
    protos, out = tmp_path_factory.mktemp("protos"), tmp_path_factory.mktemp("out")
    text = (checkout / "protos" / VALIDATE).read_text("utf-8")
    if request.param == "another":
        text += "\nmessage FromAnotherVersion {}\n"
    (protos / VALIDATE).parent.mkdir(parents=True)
    (protos / VALIDATE).write_text(text, "utf-8")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"--python_out={out}", VALIDATE]
    subprocess.run(command, check=True)
    return out


def test_they_install_one_package(checkout: Path, tmp_path: Path) -> None:
    """Tests of tests/packages say which file is in which of them."""
    names = []
    for project in checkout, checkout / "clients/python":
        (wheel,) = WheelBuilder(str(project)).build(directory=str(tmp_path), versions=["standard"])
        with zipfile.ZipFile(wheel) as archive:
            names += archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"authsvc"}
    assert {"authsvc/v1/key_service_pb2.py", "authsvc/v1/descriptors.binpb", "authsvc/py.typed"} < set(names)
    templates = "authsvc/notifications/mail/templates"
    assert {f"{templates}/layout.html", f"{templates}/layout.txt", f"{templates}/key.created.txt"} < set(
        names
    )


@pytest.mark.slow
@pytest.mark.parametrize("ours", ["authsvc.client", "authsvc.rpc.validation"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_validate_proto(theirs: Path, ours: str, first: str) -> None:
    """A process has one file of each name. Ours is not among its files, so theirs may have any version."""
    modules = [ours, "buf.validate.validate_pb2"]
    ordered = modules if first == "ours" else modules[::-1]
    command = [sys.executable, "-c", PROGRAM, str(theirs), *ordered]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "owner_id string.owner\n"
