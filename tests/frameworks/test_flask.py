"""Flask: requests, uploads, streams, files, sessions, event loops in views; and which threads call it."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import PROGRAMS, Served

from conftest import Start
from support import reset, until
from support.command import children

APPLICATION = "flask_site:app"
INTERFACE = "wsgi"
SOURCE = Path(PROGRAMS / "flask_site.py").read_bytes()


def expected(line: str) -> bool:
    """The error that the program raises on purpose."""
    return "Traceback" in line or "/fails" in line


def test_request(site: Served) -> None:
    """S-WSGI-03 to 08."""
    answer = site.http.put(
        "/echo/a%20b/%C3%A4?q=1&q=%26",
        data={"name": "Käse"},
        headers={"cookie": "a=1; b=2", "x-test": "value"},
    )
    assert answer.json() == {
        "method": "PUT",
        "rest": "a b/ä",
        "query": {"q": ["1", "&"]},
        "form": {"name": "Käse"},
        "cookies": {"a": "1", "b": "2"},
        "address": "127.0.0.1",
        "scheme": "http",
        "header": "value",
        "root": "",
        "here": "/echo/x",
    }
    assert float(answer.headers["x-took"]) >= 0
    assert site.http.post("/json", json={"a": [1, None]}).json() == {"got": {"a": [1, None]}}
    assert (
        site.http.post("/json", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    )


def test_environ(site: Served) -> None:
    """S-WSGI-02, S-WSGI-04, S-WSGI-06."""
    seen = site.http.get("/environ?a=b", headers={"proxy": "bad", "x_under": "score"}).json()
    assert (seen["REQUEST_METHOD"], seen["QUERY_STRING"]) == ("GET", "a=b")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", str(site.port))
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (seen["wsgi.url_scheme"], seen["wsgi.multiprocess"], seen["wsgi.run_once"]) == (
        "http",
        False,
        False,
    )
    assert "HTTP_X_UNDER" not in seen


def test_errors(site: Served) -> None:
    """S-WSGI-33, S-WSGI-35."""
    with site.raw() as client:
        for path, status in (
            ("/fails", 500),
            ("/teapot", 418),
            ("/none", 404),
            ("/nothing", 204),
            ("/quick", 200),
        ):
            assert client.get(path).status == status
        assert client.request("HEAD", "/quick").answer("HEAD").header("content-length") == "5"
        assert client.get("/quick").body == b"quick"
    until(lambda: "LookupError: a fault of the view" in site.log(), "the error in the log")


def test_uploads(site: Served) -> None:
    """S-REG-23, S-WSGI-15: a body in chunks is read as one with a length."""
    size = 3_000_000
    for content in (b"x" * size, iter([b"x" * 1_000_000] * 3)):
        kind = {"content-type": "application/octet-stream"}
        answer = site.http.post("/upload", content=content, headers=kind)
        if site.is_ours:
            assert answer.json() == {"length": size, "size": size}
        assert answer.json()["size"] == size
    assert site.http.post("/upload", files={"file": ("a.bin", b"x" * size)}).json() == {
        "name": "a.bin",
        "size": size,
    }
    chunked = iter(
        [
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="c"\r\n\r\n',
            b"abc",
            b"\r\n--b--\r\n",
        ]
    )
    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert site.http.post("/upload", content=chunked, headers=kind).json() == {"name": "c", "size": 3}
    assert site.http.post("/lines", content=b"one\ntwo\n\nfour").json() == ["one", "two", "", "four"]
    assert site.http.post("/lines", content=iter([b"on", b"e\ntw", b"o"])).json() == ["one", "two"]


def test_event_loops_in_views(site: Served) -> None:
    """S-REG-22, S-WSGI-40: no loop runs on the thread, so that a view can run one."""
    assert [site.http.get(path).text for path in ("/asyncio", "/async", "/asyncio")] == [
        "ran",
        "async",
        "ran",
    ]


def test_files(site: Served) -> None:
    """S-WSGI-32."""
    answer = site.http.get("/file")
    assert (answer.content, answer.headers["content-length"]) == (SOURCE, str(len(SOURCE)))
    head = site.http.head("/file")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(SOURCE)))
    part = site.http.get("/file", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, SOURCE[10:20])
    assert site.http.get("/file", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert site.http.get("/memory-file").content == b"0123456789"


def test_sessions_and_redirects(site: Served) -> None:
    with site.client() as client:
        assert [client.get("/visits").text for _ in range(3)] == ["1", "2", "3"]
    assert site.http.get("/away").headers["location"] == f"{site.url}/quick"


def test_redirect_behind_a_proxy(site: Served) -> None:
    """S-REG-27, S-WSGI-07: the scheme of a trusted proxy."""
    headers = {"x-forwarded-proto": "https", "host": "shop.example"}
    assert site.http.get("/away", headers=headers).headers["location"] == "https://shop.example/quick"


@pytest.mark.ours("gunicorn changes the scheme only")
def test_address_behind_a_proxy(site: Served) -> None:
    """S-WSGI-07."""
    assert site.http.get("/echo/x", headers={"x-forwarded-for": "192.0.2.7"}).json()["address"] == "192.0.2.7"


def test_leaving_a_stream(site: Served) -> None:
    """S-WSGI-27, S-WSGI-28, S-REG-21: generator and response are closed, once, and nothing is logged."""
    log = site.log()
    for count in range(1, 4):
        client = site.raw()
        client.request("GET", "/endless").until(b"more\n")
        reset(client)
        site.noted("response closed", count)
    assert site.diary().count("generator closed") == 3
    assert site.diary().count("response closed") == 3
    assert site.log() == log


def test_one_thread_by_default(site: Served) -> None:
    """S-REG-20, S-WSGI-42: never two requests in application code at once, however many clients there are."""
    with ThreadPoolExecutor(64) as pool:
        seen = list(pool.map(lambda _: site.http.get("/work").json(), range(200)))
    assert max(each["most"] for each in seen) == 1


def test_streams_and_short_requests(start: Start) -> None:
    """S-REG-19, S-WSGI-25, S-WSGI-43: a stream holds one of two threads, and each block is on its way at once."""
    site = start(APPLICATION, "--threads", "2", interface="wsgi")
    with site.raw() as stream:
        stream.request("GET", "/stream?word=step").until(b"\r\n\r\n")
        for number in range(3):
            stream.until(f"step {number}\n".encode())
            assert [site.http.get("/quick").text for _ in range(20)] == ["quick"] * 20
            assert site.http.post("/go-on").text == "gone on"
        stream.until(b"0\r\n\r\n")


def test_many_threads(start: Start) -> None:
    """S-WSGI-42, S-WSGI-43: at most so many as were asked for."""
    site = start(APPLICATION, "--threads", "8", interface="wsgi")
    with ThreadPoolExecutor(32) as pool:
        seen = list(pool.map(lambda _: site.http.get("/work").json(), range(300)))
    most = max(each["most"] for each in seen)
    assert 2 <= most <= 8


@pytest.mark.ours("gunicorn closes connections that are kept")
def test_workers_are_replaced_under_load(start: Start) -> None:
    """S-REG-31: SIGHUP, with clients that keep their connections: each request has its response."""
    site = start(APPLICATION, "--workers", "2", interface="wsgi")
    with site.client() as client:
        before = {client.get("/process").text for _ in range(5)}
    over = threading.Event()

    def ask(_: int) -> set[str]:
        seen = set()
        with site.client() as client:
            while not over.is_set():
                answer = client.get("/process")
                assert answer.status_code == 200
                seen.add(answer.text)
        return seen

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, number) for number in range(8)]
        site.command.signal(signal.SIGHUP)
        try:
            until(lambda: not set(map(str, children(site.command.pid))) & before, "other workers")
            # They have served some requests when this client has got hold of one.
            with site.client() as client:
                until(lambda: client.get("/process").text not in before, "a new worker")
        finally:
            over.set()
        seen = set().union(*(each.result(20) for each in asked))
    assert seen - before, "only the old workers have served"


@pytest.mark.ours("gunicorn has no such option")
@pytest.mark.parametrize("strips", [True, False])
def test_root_path(start: Start, strips: bool) -> None:
    """S-REG-26, S-WSGI-05."""
    site = start(APPLICATION, "--root-path", "/api", interface="wsgi")
    seen = site.http.get(f"{'' if strips else '/api'}/echo/rest").json()
    assert (seen["root"], seen["rest"], seen["here"]) == ("/api", "rest", "/api/echo/x")


def test_pipelined_requests(site: Served) -> None:
    with site.raw() as client:
        for number in range(20):
            client.request("GET", f"/echo/{number}")
        for number in range(20):
            assert json.loads(client.answer().body)["rest"] == str(number)
