"""Generate src/authsvc/v1 and src/authsvc/gateway/v1 from the protos: `make proto`.

With `--descriptors FILE`, write only what the clients in other languages are generated from: `make clients`.
Generated code does not import the rules for fields: docs/adr/0007-vendored-validate.md says why.
"""

import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PROTOS = Path(__file__).parent
PATH = (f"--proto_path={PROTOS}", f"--proto_path={files('grpc_tools') / '_proto'}")
RULES = ("authsvc/v1/rules.proto", "buf/validate/validate.proto")


def main(out: Path) -> None:
    """Write the generated code below a directory."""
    with TemporaryDirectory() as temporary:
        thin = Path(temporary, "thin.binpb")
        described = _described(Path(temporary))
        thin.write_bytes(_without_rules(described).SerializeToString())
        names = [name for name in _names("authsvc/v1") if name not in RULES]
        _run(f"--descriptor_set_in={thin}", *_outputs(out, "python", "mypy"), *names)
        services = [name for name in names if name.endswith("_service.proto")]
        _run(f"--descriptor_set_in={thin}", *_outputs(out, "grpc_python", "mypy_grpc"), *services)
    _run(*PATH, *_outputs(out, "python", "mypy"), *_names("authsvc/gateway/v1"))
    (out / "authsvc/v1/descriptors.binpb").write_bytes(_commented(described).SerializeToString())


def describe(out: Path) -> None:
    """Write the descriptors of authsvc.v1 without the rules, and of the files that these import."""
    with TemporaryDirectory() as temporary:
        thin = _without_rules(_described(Path(temporary)))
    kept = FileDescriptorSet(file=[file for file in thin.file if file.name not in RULES])
    out.write_bytes(kept.SerializeToString())


def _described(temporary: Path) -> FileDescriptorSet:
    written = temporary / "written.binpb"
    names = _names("authsvc/v1")
    _run(*PATH, "--include_imports", "--include_source_info", f"--descriptor_set_out={written}", *names)
    return FileDescriptorSet.FromString(written.read_bytes())


def _names(directory: str) -> list[str]:
    return sorted(str(file.relative_to(PROTOS)) for file in (PROTOS / directory).glob("*.proto"))


def _outputs(out: Path, *plugins: str) -> list[str]:
    return [f"--{plugin}_out={'quiet:' if plugin.startswith('mypy') else ''}{out}" for plugin in plugins]


def _run(*arguments: str) -> None:
    if status := protoc.main(["protoc", *arguments]):
        sys.exit(status)


def _without_rules(described: FileDescriptorSet) -> FileDescriptorSet:
    """Return the files without their imports of the rules. The options that give the rules stay."""
    thin = FileDescriptorSet()
    thin.CopyFrom(described)
    for file in thin.file:
        if file.name not in RULES:
            kept = [imported for imported in file.dependency if imported not in RULES]
            del file.dependency[:]
            file.dependency.extend(kept)
        # As in all generated code: none of ours differs from the default.
        _clear_json_names(file.message_type)
        for extension in file.extension:
            extension.ClearField("json_name")
    return thin


def _clear_json_names(messages: Iterable[DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _clear_json_names(message.nested_type)


def _commented(described: FileDescriptorSet) -> FileDescriptorSet:
    """Return the files, of which only ours have their comments."""
    commented = FileDescriptorSet()
    commented.CopyFrom(described)
    for file in commented.file:
        if not file.name.startswith("authsvc/"):
            file.ClearField("source_code_info")
    return commented


if __name__ == "__main__":
    if sys.argv[1] == "--descriptors":
        describe(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
