"""The style sheet, the script and the icon: read once, and served under names with a hash of their content.

So browsers may keep them for a year, and a page of another version asks for another name.
"""

from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HASH_LENGTH = 16
_LONG = "public, max-age=31536000, immutable"


class StaticFiles:
    """The files of the package in `static`."""

    def __init__(self) -> None:
        self._contents: dict[str, tuple[bytes, str]] = {}
        #: The paths to link to, by the names of the files.
        self.paths: dict[str, str] = {}
        for file in files(__package__).joinpath("static").iterdir():
            stem, _, suffix = file.name.rpartition(".")
            if suffix not in _TYPES:
                continue
            content = file.read_bytes()
            served = f"{stem}.{sha256(content).hexdigest()[:_HASH_LENGTH]}.{suffix}"
            self._contents[served] = content, _TYPES[suffix]
            self.paths[file.name] = f"/static/{served}"

    def find(self, request: Request) -> Response | None:
        """Return a file; None if there is no such one."""
        found = self._contents.get(request.path_params["name"])
        if found is None:
            return None
        content, media_type = found
        return Response(content, media_type=media_type, headers={"cache-control": _LONG})
