"""Django 5.2, by WSGI and by ASGI: the ORM, uploads, streams, files, sessions, the admin; and consumers of Channels."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import PROGRAMS, Served
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conftest import Start
from support import reset, until

APPLICATION = {"wsgi": "django_site:wsgi", "asgi": "django_site:asgi"}
SOURCE = Path(PROGRAMS / "django_site.py").read_bytes()

both = pytest.mark.parametrize("site", ["wsgi", "asgi"], indirect=True, scope="module")
wsgi = pytest.mark.parametrize("site", ["wsgi"], indirect=True, scope="module")
asgi = pytest.mark.parametrize("site", ["asgi"], indirect=True, scope="module")


def expected(line: str) -> bool:
    """What the program raises on purpose."""
    return "Traceback" in line or "/fails" in line


@both
def test_orm(site: Served) -> None:
    """S-REG-22, S-WSGI-40: no event loop runs on the thread of a plain view, so that Django allows the database."""
    before = len(site.http.get("/notes").json()["notes"])
    for text in ("a", "ä"):
        assert site.http.post("/notes", data={"text": text}).status_code == 200
    answer = site.http.post("/notes-async", data={"text": "async"})
    assert answer.json()["notes"][before:] == ["a", "ä", "async"]
    assert answer.json()["count"] == before + 3
    assert site.http.get("/transaction").json() == {"seen": 0}


@wsgi
def test_threads_of_the_orm(site: Served) -> None:
    """S-REG-20, S-WSGI-47: by default one thread at a time, so that Django has one connection with the database."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: site.http.get("/notes"), range(100)))
    assert site.http.get("/notes").json()["threads"] <= 2


@both
def test_request(site: Served) -> None:
    """S-WSGI-05, S-WSGI-07, S-WSGI-08."""
    seen = site.http.get("/about/%C3%A4%2Fb?q=%26", headers={"x-test": "value"}).json()
    assert seen == {
        "path": "/about/ä/b",
        "info": "/about/ä/b",
        "query": {"q": "&"},
        "address": "127.0.0.1",
        "secure": False,
        "url": f"{site.url}/about/%C3%A4/b?q=%26",
        "header": "value",
    }


@both
def test_proxy(site: Served) -> None:
    """S-REG-27: https from a trusted proxy."""
    seen = site.http.get("/about", headers={"x-forwarded-proto": "https", "host": "shop.example"}).json()
    assert (seen["secure"], seen["url"]) == (True, "https://shop.example/about")


@both
def test_uploads(site: Served) -> None:
    """S-REG-23, S-WSGI-15: a body in chunks is read as one with a length."""
    size = 3_000_000
    for content in (b"x" * size, iter([b"x" * 1_000_000] * 3)):
        if not site.is_ours and site.interface == "wsgi" and not isinstance(content, bytes):
            continue  # gunicorn gives no length, and Django reads nothing then
        kind = {"content-type": "application/octet-stream"}
        assert site.http.post("/upload", content=content, headers=kind).json()["size"] == size
    files = {"file": ("a.bin", b"x" * size)}
    assert site.http.post("/upload", files=files).json() == {"name": "a.bin", "size": size}


@wsgi
@pytest.mark.ours("gunicorn gives no length, and Django reads nothing then")
def test_files_in_chunks(site: Served) -> None:
    """S-REG-23. By ASGI Django itself reads no file without a length."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="c.bin"\r\n\r\n'
    chunks = iter([head, b"x" * 1_000_000, b"x" * 1_000_000, b"\r\n--b--\r\n"])
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = site.http.post("/upload", content=chunks, headers=kind)
    assert answer.json() == {"name": "c.bin", "size": 2_000_000}


@both
@pytest.mark.ours("gunicorn gives no length, and Django reads nothing then")
def test_form_in_chunks(site: Served) -> None:
    """S-REG-23."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = site.http.post("/notes", content=iter([b"te", b"xt=in+chunks"]), headers=kind)
    assert answer.json()["notes"][-1] == "in chunks"


@both
def test_sessions_and_middlewares(site: Served) -> None:
    with site.client() as client:
        assert [client.get("/visits").text for _ in range(3)] == ["1", "2", "3"]
        kind = site.http.get("/about").headers["x-timing"]
        assert kind == ("sync" if site.interface == "wsgi" else "async")
        assert client.get("/redirect").headers["location"] == "/about"


@both
def test_errors(site: Served) -> None:
    with site.raw() as client:
        answer = client.get("/fails")
        assert (answer.status, b"Server Error" in answer.body) == (500, True)
        assert client.get("/none").status == 404
        assert client.get("/about").status == 200


@both
def test_stream(site: Served) -> None:
    """S-WSGI-25, S-WSGI-28."""
    before = site.diary().count("stream closed")
    answer = site.http.get("/stream")
    assert answer.text == "line 0\nline 1\nline 2\n"
    site.noted("stream closed", before + 1)


@both
def test_file(site: Served) -> None:
    """S-WSGI-32: FileResponse, whole, from a position, for HEAD, and through the middleware that compresses."""
    identity = {"accept-encoding": "identity"}
    answer = site.http.get("/file", headers=identity)
    assert answer.content == SOURCE
    assert answer.headers["content-length"] == str(len(SOURCE))
    assert answer.headers["content-disposition"] == 'attachment; filename="site.py"'
    assert site.http.get("/file?offset=100", headers=identity).content == SOURCE[100:]
    head = site.http.head("/file", headers=identity)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(SOURCE)))
    assert site.http.get("/file", headers={"accept-encoding": "gzip"}).content == SOURCE


@both
def test_requests_are_finished(site: Served) -> None:
    """S-REG-21, S-WSGI-28: exactly once, also when the client leaves during the response."""
    before = site.diary().count("request finished")
    for _ in range(5):
        client = site.raw()
        client.request("GET", "/endless" if site.interface == "wsgi" else "/stream-async")
        client.until(b"\r\n\r\n")
        reset(client)
    until(lambda: site.diary().count("request finished") >= before + 5, "the end of the requests")


@wsgi
def test_leaving_a_stream(site: Served) -> None:
    """S-WSGI-27: the generator is closed, and nothing is logged."""
    before, log = site.diary().count("endless closed"), site.log()
    client = site.raw()
    client.request("GET", "/endless").until(b"more\n")
    reset(client)
    site.noted("endless closed", before + 1)
    assert site.log() == log


@asgi
def test_leaving_an_async_stream(site: Served) -> None:
    """S-REG-01."""
    before = site.diary().count("async stream closed")
    client = site.raw()
    client.request("GET", "/stream-async").until(b"data: first")
    reset(client)
    site.noted("async stream closed", before + 1)


@asgi
def test_leaving_an_async_view(site: Served) -> None:
    """Django listens for the disconnect and cancels the view."""
    client = site.raw()
    client.request("GET", "/slow")
    site.noted("slow begun")
    reset(client)
    site.noted("slow ended", timeout=5)


# ---- the admin -------------------------------------------------------------------------------------------------------


@pytest.mark.ours("put the root path before every path, or have no option for it")
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_admin_behind_proxies(start: Start, interface: str) -> None:
    """S-REG-26, S-WSGI-05: its links have the prefix once, whether or not the proxy strips it."""
    site = start(APPLICATION[interface], "--root-path", "/api", interface=interface)
    for prefix in ("", "/api"):
        answer = site.http.get(f"{prefix}/admin/")
        assert (answer.status_code, answer.headers["location"]) == (302, "/api/admin/login/?next=/api/admin/")
        login = site.http.get(f"{prefix}/admin/login/")
        assert (login.status_code, "Django administration" in login.text) == (200, True)
        seen = site.http.get(f"{prefix}/about").json()
        assert (seen["path"], seen["info"]) == ("/api/about", "/about")


# ---- Channels --------------------------------------------------------------------------------------------------------


@asgi
def test_channels_group(site: Served) -> None:
    """S-REG-35: two members of a room."""
    before = site.diary().count("left with 1000")
    with site.websocket("/rooms/blue") as first, site.websocket("/rooms/blue") as second:
        first.send('{"text": "hello"}')
        for socket in (first, second):
            assert json.loads(socket.recv(20)) == {"room": "blue", "text": "hello"}
    site.noted("left with 1000", before + 2)


@asgi
def test_channels_consumer_in_a_thread(site: Served) -> None:
    with site.websocket("/counter", subprotocols=["count"]) as socket:
        assert socket.subprotocol == "count"
        socket.send("how many?")
        said = json.loads(socket.recv(20))
        assert said["text"] == "how many?"
        socket.send("end")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4003


@asgi
def test_channels_refuses(site: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        site.websocket("/counter?refuse")
    assert refused.value.response.status_code == 403


@asgi
@pytest.mark.ours("uvicorn says so")
def test_no_lifespan(site: Served) -> None:
    """S-LIFE-12: Django and Channels know no lifespan, and nothing is said of it."""
    assert "lifespan" not in site.log().lower()
