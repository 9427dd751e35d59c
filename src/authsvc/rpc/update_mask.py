"""Update masks: the fields that a request changes (AIP-161)."""

from collections.abc import Sequence

from google.protobuf.descriptor import Descriptor

from authsvc.model.errors import FieldViolation


def mask_violations(
    paths: Sequence[str], editable: Sequence[str], descriptor: Descriptor
) -> list[FieldViolation]:
    """Return what is wrong with an update mask for a message of which some fields are `editable`."""
    problems = _mask_problems(paths, editable, descriptor)
    return [FieldViolation("update_mask", "update_mask.path", problem) for problem in problems]


def _mask_problems(paths: Sequence[str], editable: Sequence[str], descriptor: Descriptor) -> list[str]:
    if not paths:
        return [f"is empty; name the fields to change: {', '.join(editable)}, or * for all of them"]
    problems = []
    if "*" in paths and len(paths) > 1:
        problems.append("* means all fields and must be the only path")
    for path in paths:
        field, _, below = path.partition(".")
        if path == "*" or path in editable:
            continue
        if below and field in editable:
            problems.append(f"{path} is a subfield; use the path {field} and send the whole field")
        elif field in descriptor.fields_by_name:
            problems.append(f"{path} cannot be changed; only {', '.join(editable)} can")
        else:
            problems.append(f"{path} is not a field of {descriptor.name}")
    if len(set(paths)) < len(paths):
        problems.append("a path is listed twice")
    return problems
