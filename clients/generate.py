"""Generate the code of a client from the protos: `make clients`, or `python clients/generate.py go [OUT]`.

buf runs plugins that are installed on this machine. It gets descriptors, which do not have the rules for
fields, for the reasons of docs/adr/0007-vendored-validate.md. The code for Java is much larger, so it is not
committed: these descriptors are, and the build of the client generates from them.
"""

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorSet

# Without its options in memory, they would be unknown fields of the descriptors.
from authsvc.v1 import options_pb2

ROOT = Path(__file__).resolve().parents[1]
_GO = ROOT / ".tools" / "clients-go"
# Their versions are in the generated code.
_GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
)


def main(language: str, out: Path) -> None:
    """Write the generated code of a language below a directory, where its client is by default."""
    if language not in _LANGUAGES:
        sys.exit(f"no code is generated for {language!r}; give one of: {', '.join(_LANGUAGES)}")
    with TemporaryDirectory() as temporary:
        image = Path(temporary, "authsvc.binpb")
        _run(sys.executable, ROOT / "protos" / "generate.py", "--descriptors", image)
        _LANGUAGES[language](image, out)


def go(image: Path, out: Path) -> None:
    """Write the code for Go."""
    _buf("go", go_plugins(), image, "authsvc/v1", out)


def typescript(image: Path, out: Path) -> None:
    """Write the code for TypeScript, with that of the details of errors, which no package has."""
    client = ROOT / "clients" / "typescript"
    plugins = client / "node_modules" / ".bin"
    if not plugins.exists():
        _run("npm", "ci", "--silent", "--prefix", client)
    image.write_bytes(_known(image).SerializeToString(deterministic=True))
    _buf("typescript", plugins, image, "authsvc/v1", out)
    details = image.with_name("details.binpb")
    # This package installs google/rpc.
    protos = Path(str(distribution("googleapis-common-protos").locate_file("")))
    _run(
        *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={protos}"),
        *("--include_imports", "--include_source_info", f"--descriptor_set_out={details}"),
        *("google/rpc/error_details.proto", "google/rpc/status.proto"),
    )
    _buf("typescript", plugins, details, "google/rpc", out)


def java(image: Path, out: Path) -> None:
    """Write the descriptors that the build for Java generates the code from.

    They name its package, and have only the comments of our protos.
    """
    described = _known(image)
    for file in described.file:
        locations = file.source_code_info.location
        if file.package == options_pb2.DESCRIPTOR.package:
            file.options.java_package = "io.github.authsvc.v1"
            file.options.java_multiple_files = True
            kept = [each for each in locations if each.leading_comments or each.trailing_comments]
            del locations[:]
            locations.extend(kept)
        else:
            file.ClearField("source_code_info")
    written = out / "src" / "main" / "protobuf" / "authsvc.binpb"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_bytes(described.SerializeToString(deterministic=True))


def _known(image: Path) -> FileDescriptorSet:
    """Return descriptors without the options that are rules for fields, which protoc could not read."""
    described = FileDescriptorSet.FromString(image.read_bytes())
    described.DiscardUnknownFields()
    return described


def go_plugins() -> Path:
    """Install the plugins for Go, and return their directory."""
    for plugin in _GO_PLUGINS:
        _run("go", "install", plugin, GOBIN=str(_GO))
    return _GO


def _buf(language: str, plugins: Path, image: Path, path: str, out: Path) -> None:
    _run(
        Path(sys.executable).with_name("buf"),
        *("generate", image, "--path", path, "--output", out),
        *("--template", ROOT / "clients" / language / "buf.gen.yaml"),
        PATH=os.pathsep.join((str(plugins), os.environ["PATH"])),
    )


def _run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, check=False)  # noqa: S603 - ours
    if done.returncode:
        sys.exit(done.returncode)


_LANGUAGES = {"go": go, "typescript": typescript, "java": java}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "clients" / sys.argv[1])
