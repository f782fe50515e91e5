"""Serves the zip's static folder."""

from asyncio import to_thread
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote

from sanic.exceptions import NotFound
from sanic.response import validate_file

CHUNK_BYTES = 256 * 1024


def static_files(folder):
    """A Sanic handler for `/<path:path>` below `folder`; whatever is no file inside it is 404."""
    root = Path(folder).resolve()

    async def serve(request, path):
        file = file_inside(root, unquote(path))
        status = file.stat()
        not_modified = await validate_file(request.headers, status.st_mtime)
        if not_modified:
            return not_modified
        headers = {"Content-Length": str(status.st_size)}
        headers["Last-Modified"] = http_date(status.st_mtime)
        return await request.streamResponse(chunks_of(file), 200, content_type_of(file), headers)

    return serve


def file_inside(root, path):
    """The file at `path` once links and dots are followed. Raises NotFound if that leads out of `root` or nowhere."""
    try:
        file = (root / path).resolve()
        if file.is_relative_to(root) and file.is_file():
            return file
    except (OSError, ValueError):
        pass  # A name that no file system takes is as absent as any other.
    raise NotFound(f"there is no file /static/{path}")


async def chunks_of(path):
    with path.open("rb") as file:
        while chunk := await to_thread(file.read, CHUNK_BYTES):
            yield chunk


def content_type_of(file):
    guessed = guess_type(file.name)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def http_date(seconds):
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
