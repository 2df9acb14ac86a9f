"""``wsgi.file_wrapper``: S-WSGI-32."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify.wsgi_environ import real_file
from support import reset, until
from support.wsgi import OK, TEXT, Environ, Site

Start = Callable[..., Site]

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


class Watched:
    """A file that is no real one."""

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)
        self.sizes: list[int] = []
        self.closed = 0

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        return self.stream.read(size)

    def close(self) -> None:
        self.closed += 1


def wrapping(open_: Callable[[], Any], *arguments: Any, headers: Any = TEXT, status: str = OK) -> Any:
    def application(environ: Environ, start_response: Any) -> Any:
        start_response(status, list(headers))
        return environ["wsgi.file_wrapper"](open_(), *arguments)

    return application


def test_a_real_file_is_not_read(site: Start, path: Path) -> None:
    """S-WSGI-32: the kernel sends it, from its position, and the wrapper is closed."""
    files: list[Any] = []

    class Unread(io.FileIO):
        pass

    def open_() -> Any:
        file = path.open("rb")
        assert file.read(10) == CONTENT[:10]
        files.append(file)
        return file

    started = site(wrapping(open_))
    client = started.client()
    for _ in range(2):
        answer = client.request().answer()
        assert answer.body == CONTENT[10:]
        assert answer.header("content-length") == str(len(CONTENT) - 10)
        # The application's head, and no more.
        assert answer.lines[0] == "Content-Type: text/plain"
        assert not {"etag", "last-modified", "accept-ranges"} & answer.headers.keys()
    until(lambda: all(file.closed for file in files), "they are closed")


@pytest.mark.parametrize("size", [0, 1, 30_000, 40_000, len(CONTENT)])
def test_sizes(site: Start, tmp_path: Path, size: int) -> None:
    """S-WSGI-32: what is copied behind the head, and what the kernel sends."""
    (tmp_path / "f").write_bytes(CONTENT[:size])
    client = site(wrapping(lambda: (tmp_path / "f").open("rb"))).client()
    for _ in range(2):
        answer = client.request().answer()
        assert (answer.header("content-length"), answer.body) == (str(size), CONTENT[:size])
        answer = client.request("HEAD").answer("HEAD")
        assert answer.header("content-length") == str(size)
    assert client.pending == b""


@pytest.mark.parametrize("open_", [
    lambda path: path.open("rb"),
    lambda path: path.open("r+b"),
    lambda path: path.open("rb", buffering=0),
    lambda path: io.BytesIO(path.read_bytes()),
    lambda path: Watched(path.read_bytes()),
])  # fmt: skip
def test_declared_lengths(site: Start, path: Path, open_: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-32, S-WSGI-29: a shorter one ends the body, a longer one cuts the connection."""
    client = site(wrapping(lambda: open_(path), headers=[("Content-Length", "1000")])).client()
    answer = client.request().answer()
    assert answer.body == CONTENT[:1000]
    assert client.request().answer().body == CONTENT[:1000]
    client = site(wrapping(lambda: open_(path), headers=[("Content-Length", str(len(CONTENT) + 1))])).client()
    client.request()
    data = b""
    while piece := client.receive():
        data += piece
    assert len(data.partition(b"\r\n\r\n")[2]) <= len(CONTENT)
    until(lambda: "the connection was cut" in caplog.text, "it is logged")


def test_anything_else_is_read_in_blocks(site: Start) -> None:
    """S-WSGI-32: of the size that was asked for."""
    files: list[Watched] = []

    def open_() -> Any:
        files.append(Watched(CONTENT))
        return files[-1]

    assert site(wrapping(open_)).ask().body == CONTENT
    assert set(files[0].sizes) == {8192}
    assert site(wrapping(open_, 100_000)).ask().body == CONTENT
    assert set(files[1].sizes) == {100_000}
    until(lambda: [file.closed for file in files] == [1, 1], "they are closed once")


def test_close_of_the_wrapper(site: Start, path: Path) -> None:
    """S-WSGI-32: what a framework puts there, or on the file, is called in place of the file's own."""
    closed: list[str] = []

    def on_the_file(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        file = path.open("rb")
        close = file.close
        file.close = lambda: (closed.append("file"), close())  # type: ignore[method-assign, func-returns-value]
        return environ["wsgi.file_wrapper"](file)

    def on_the_wrapper(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        file = path.open("rb")
        wrapper = environ["wsgi.file_wrapper"](file)
        wrapper.close = lambda: (closed.append("wrapper"), file.close())
        return wrapper

    for application, expected in ((on_the_file, "file"), (on_the_wrapper, "wrapper")):
        assert site(application).ask().body == CONTENT
        until(lambda: closed, "it is closed")
        assert closed == [expected]
        closed.clear()


def test_a_file_without_close(site: Start) -> None:
    """S-WSGI-32."""

    class Bare:
        def __init__(self) -> None:
            self.stream = io.BytesIO(b"bare")
            self.read = self.stream.read

    assert site(wrapping(Bare)).ask().body == b"bare"


def test_as_a_class_of_its_own(site: Start) -> None:
    """S-WSGI-32: it can be made by name, has what others have, and iterates inside of middleware."""

    def application(environ: Environ, start_response: Any) -> Any:
        wrapper = environ["wsgi.file_wrapper"](filelike=io.BytesIO(b"abcdef"), block_size=4)
        assert isinstance(wrapper, environ["wsgi.file_wrapper"])
        assert (wrapper.block_size, wrapper.filelike.getvalue()) == (4, b"abcdef")
        start_response(OK, TEXT)

        class Middleware:
            def __iter__(self) -> Any:
                return iter(wrapper)

            close = wrapper.close

        return Middleware()

    client = site(application).client().request()
    assert client.until(b"0\r\n\r\n").endswith(b"\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")


def test_a_subclass_iterates(site: Start, path: Path) -> None:
    """S-WSGI-32: what it does itself counts."""

    def application(environ: Environ, start_response: Any) -> Any:
        class Loud(environ["wsgi.file_wrapper"]):  # type: ignore[misc]
            def __next__(self) -> bytes:
                return super().__next__().upper()  # type: ignore[no-any-return]

        start_response(OK, TEXT)
        path.write_bytes(b"quiet")
        return Loud(path.open("rb"))

    assert site(application).ask().body == b"QUIET"


def test_files_that_translate(site: Start, tmp_path: Path) -> None:
    """S-WSGI-32: the bytes of a compressed file are those that reading it gives, though it has a descriptor."""
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(b"unpacked"))
    assert site(wrapping(lambda: gzip.GzipFile(packed))).ask().body == b"unpacked"


def test_which_files_are_real(path: Path) -> None:
    """S-WSGI-32."""
    with path.open("rb") as file:
        file.seek(7)
        assert real_file(file) == (file.fileno(), 7)
    assert real_file(file) is None
    with path.open("rb", buffering=0) as raw:
        assert real_file(raw) == (raw.fileno(), 0)
    with tempfile.NamedTemporaryFile() as named:
        named.write(b"abc")
        assert real_file(named) == (named.fileno(), 3)
        assert Path(named.name).read_bytes() == b"abc"
    with path.open(encoding="latin-1") as text:
        assert real_file(text) is None

    class Decrypting:
        file = path.open("rb")

    assert real_file(Decrypting()) is None
    Decrypting.file.close()
    assert real_file(io.BytesIO()) is None
    assert real_file(None) is None


def test_pipes_are_read(site: Start) -> None:
    """S-WSGI-32: only regular files have a length."""
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    assert site(wrapping(lambda: os.fdopen(reading, "rb"))).ask().body == b"through a pipe"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body(site: Start, path: Path, status: str) -> None:
    """S-WSGI-32, S-WSGI-31."""
    client = site(wrapping(lambda: path.open("rb"), status=status)).client()
    for _ in range(2):
        assert client.request().answer().status_line == f"HTTP/1.1 {status}"
    assert client.pending == b""


def test_a_slow_client_of_a_file_keeps_no_thread(site: Start, tmp_path: Path) -> None:
    """S-WSGI-32: the core sends it while the application serves others."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(20 << 20)
    closed = threading.Event()

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        if environ["PATH_INFO"] == "/other":
            return [b"other"]
        wrapper = environ["wsgi.file_wrapper"](large.open("rb"))
        close = wrapper.filelike.close
        wrapper.close = lambda: (close(), closed.set())
        return wrapper

    started = site(application)
    client = started.client(receive_buffer=4096).request()
    assert closed.wait(20)
    assert started.ask("/other").body == b"other"
    assert len(client.answer().body) == 20 << 20


def test_a_client_that_leaves(site: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-32, S-WSGI-27."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(100 << 20)
    started = site(wrapping(lambda: large.open("rb")))
    client = started.client(receive_buffer=4096).request()
    client.until(b"\r\n\r\n")
    reset(client)
    until(lambda: started.running.app._server.request_count() == 0, "nothing is in progress")
    assert started.client().request("HEAD").answer("HEAD").status == 200
    assert caplog.records == []
