"""The static files of the pages: few, read once, and served from memory under names with a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources

import attrs
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}
_NAMES = ("admin.css", "admin.js", "icon.svg")
_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


@attrs.frozen
class StaticFile:
    """A file as it is served."""

    name: str
    """The name, with a hash of the content."""
    content: bytes
    media_type: str


def load_static_files() -> Mapping[str, StaticFile]:
    """Return the files by the names that templates use."""
    folder = resources.files("trio_graphile.admin._pages").joinpath("static")
    return {name: _file(name, folder.joinpath(name).read_bytes()) for name in _NAMES}


def _file(name: str, content: bytes) -> StaticFile:
    stem, _, ending = name.rpartition(".")
    mark = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(f"{stem}.{mark}.{ending}", content, _TYPES[ending])


def static_response(files: Mapping[str, StaticFile], request: Request) -> Response:
    """Answer with the file that the path names; no name leads to other files."""
    for file in files.values():
        if file.name == request.path_params["name"]:
            return Response(file.content, media_type=file.media_type, headers=_FOR_EVER)
    return PlainTextResponse("there is no such file", 404)
