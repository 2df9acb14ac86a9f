"""Uploads with Falcon, streamed to the disk and back, served by WSGI.

Try it with:

    pip install falcon
    python -m socketify falcon_files:app --threads 4
    curl -T falcon_files.py localhost:8000/files/program
    curl localhost:8000/files/program
"""

import mimetypes
import os
import tempfile
from pathlib import Path

import falcon

DIRECTORY = Path(os.environ.get("UPLOADS") or tempfile.mkdtemp())
PIECE = 64 * 1024


class File:
    """One file; its name comes from the path."""

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        path = DIRECTORY / name
        if not path.is_file():
            raise falcon.HTTPNotFound
        response.content_type = mimetypes.guess_type(name)[0] or falcon.MEDIA_TEXT
        # The server sends the file itself: it gives Falcon a wsgi.file_wrapper.
        response.set_stream(path.open("rb"), path.stat().st_size)

    def on_put(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        with tempfile.NamedTemporaryFile(dir=DIRECTORY, delete=False) as file:
            while piece := request.bounded_stream.read(PIECE):
                file.write(piece)
        # A client that leaves in the middle makes the read fail, and the file before stays.
        os.replace(file.name, DIRECTORY / name)
        response.status = falcon.HTTP_CREATED
        response.media = {"name": name, "size": (DIRECTORY / name).stat().st_size}


app = falcon.App()
app.add_route("/files/{name}", File())
