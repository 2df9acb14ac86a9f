"""FastAPI: requests and responses, dependencies, streams and clients that leave them, uploads, WebSockets, lifespan."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Served, clean
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conftest import Start
from support import reset, until

APPLICATION = "fastapi_site:app"


def expected(line: str) -> bool:
    """The errors that the program raises on purpose."""
    return any(word in line for word in ("Traceback", "Uncaught", "ERROR"))


def leave(site: Served, path: str, first: bytes) -> None:
    """Asks, reads up to some bytes, and vanishes."""
    client = site.raw()
    client.request("GET", path)
    client.until(first)
    reset(client)


# ---- JSON, validation, errors ----------------------------------------------------------------------------------------


def test_json(site: Served) -> None:
    answer = site.http.post("/items/7?q=a&q=b", json={"name": "Käse", "price": 2.5})
    assert answer.status_code == 201
    assert answer.json() == {
        "number": 7,
        "item": {"name": "Käse", "price": 2.5, "tags": []},
        "q": ["a", "b"],
    }
    assert site.http.get("/plain").json() == {"visitor": "nobody"}


def test_validation(site: Served) -> None:
    answer = site.http.post("/items/seven", json={"price": -1})
    assert answer.status_code == 422
    places = {tuple(each["loc"]) for each in answer.json()["detail"]}
    assert places == {("path", "number"), ("body", "name"), ("body", "price")}
    assert (
        site.http.post("/items/7", content=b"{", headers={"content-type": "application/json"}).status_code
        == 422
    )


@pytest.mark.ours("uvicorn closes the connection after an error")
def test_errors(site: Served) -> None:
    """S-ASGI-55: an exception of the application is 500, and the connection lives on."""
    answer = site.http.get("/missing")
    assert (answer.status_code, answer.headers["x-reason"]) == (404, "none")
    with site.raw() as client:
        assert client.get("/fails").status == 500
        assert client.get("/plain").status == 200
    until(lambda: "LookupError: a fault of the application" in site.log(), "the error in the log")
    assert site.log().count("LookupError: a fault of the application") == 1


def test_documentation(site: Served) -> None:
    assert "/openapi.json" in site.http.get("/docs").text
    assert "/items/{number}" in site.http.get("/openapi.json").json()["paths"]


def test_state_of_the_lifespan(site: Served) -> None:
    """S-ASGI-14: each request has a shallow copy."""
    assert "start-up" in site.diary()
    first, second = (site.http.get("/state").json() for _ in range(2))
    assert first == {"database": ["open", "used"], "mine": 1}
    assert second == {"database": ["open", "used", "used"], "mine": 1}


@pytest.mark.ours("uvicorn begins a pipelined request in the context of the one before")
def test_context_variables(site: Served) -> None:
    """S-REG-06: a request does not see those of another, pipelined or on a connection that is kept."""
    with site.raw() as client:
        for name in "abc":
            client.request("GET", f"/context/{name}")
        for name in "abc":
            assert json.loads(client.answer().body) == {"before": "nobody", "after": name}
        assert json.loads(client.get("/context/d").body)["before"] == "nobody"
        assert json.loads(client.get("/plain").body) == {"visitor": "nobody"}


def test_scopes_are_not_shared(site: Served) -> None:
    """S-REG-07, S-ASGI-01: an application may change its scope."""
    with site.raw() as client:
        first, second = (json.loads(client.get("/scope").body) for _ in range(2))
    assert first == second
    assert "spoilt" not in json.dumps(second)


# ---- dependencies, streams, clients that leave -------------------------------------------------------------------------


def test_dependency(site: Served) -> None:
    before = site.diary()
    assert site.http.get("/dependency").json() == {"used": "connection"}
    assert site.diary()[len(before) :] == ["connected", "released"]


def test_leaving_an_idle_stream(site: Served) -> None:
    """S-REG-01: the generator is closed and the dependency released within a second."""
    before = site.diary()
    leave(site, "/events", b"data: first\n\n")
    left = time.monotonic()
    until(lambda: {"closed", "released"} <= set(site.diary()[len(before) :]), "the clean-up", 5)
    assert time.monotonic() - left < 1


@pytest.mark.ours("uvicorn speaks no HTTP/2; hypercorn does not release the dependency")
def test_leaving_one_stream_of_http2(site: Served) -> None:
    """S-REG-02: the same when one stream is reset and the connection stays."""
    before = site.diary()
    with site.h2() as client:
        number = client.request("/events")
        client.until(lambda: b"data: first" in client.streams[number].body)
        client.h2.reset_stream(number, 8)
        client.flush()
        left = time.monotonic()
        until(lambda: {"closed", "released"} <= set(site.diary()[len(before) :]), "the clean-up", 5)
        assert time.monotonic() - left < 1
        assert client.get("/plain").status == 200


def test_pieces_arrive_as_they_are_made(site: Served) -> None:
    """S-ASGI-39."""
    with site.raw() as client:
        client.request("GET", "/steps").until(b"\r\n\r\n")
        for number in range(3):
            client.until(f"step {number}\n".encode())
            assert site.http.post("/go-on").status_code == 200
        client.until(b"0\r\n\r\n")
        assert client.get("/plain").status == 200


def test_sending_to_a_client_that_has_left(site: Served) -> None:
    """S-REG-04, S-ASGI-33: no line in the log, however much the application sends."""
    before, log = site.diary().count("flood over"), site.log()
    leave(site, "/flood?count=10000", b"xxxx")
    site.noted("flood over", before + 1)
    assert site.log() == log


@pytest.mark.ours("uvicorn gives no turn to who listens for the client")
def test_leaving_a_generator(site: Served) -> None:
    """S-REG-03: Starlette ends a generator without an end when its client has left."""
    tasks = site.http.get("/tasks").json()
    for _ in range(20):
        leave(site, "/generator", b"xxxx")
    until(lambda: site.http.get("/tasks").json() <= tasks + 1, "the end of all tasks")


def test_waiting_for_a_client_that_resets(site: Served) -> None:
    """S-REG-03: what waits for room goes on when the client has gone, and nothing piles up."""
    before, tasks, count = site.diary().count("flood over"), site.http.get("/tasks").json(), 100
    stopped = []
    for _ in range(count):
        client = site.raw(receive_buffer=4096)
        client.request("GET", "/flood?count=100").until(b"xxxx")
        stopped.append(client)
    memory = site.resident()
    for client in stopped:
        reset(client)
    site.noted("flood over", before + count)
    until(lambda: site.http.get("/tasks").json() <= tasks + 2, "the end of all tasks")
    assert site.resident() < memory + (16 << 20)


def test_a_client_that_reads_slowly(site: Served) -> None:
    """S-REG-36: a stream waits for its client, and does not fill the memory."""
    before = site.resident()
    with site.raw(receive_buffer=65536) as client:
        client.request("GET", "/flood?count=3000")
        client.exactly(1 << 20)
        time.sleep(0.3)
        assert site.resident() < before + (32 << 20)


def test_a_query_is_not_cancelled(site: Served) -> None:
    """S-REG-12, S-ASGI-63: the application's task goes on when its client has left."""
    client = site.raw()
    client.request("GET", "/query")
    site.noted("query begun")
    reset(client)
    site.noted("query done")
    assert "query cancelled" not in site.diary()


# ---- uploads and background tasks --------------------------------------------------------------------------------------


def test_upload(site: Served) -> None:
    files = {"file": ("a name.bin", b"\0\1" * 100_000, "application/x-test")}
    assert site.http.post("/upload", files=files).json() == {
        "name": "a name.bin",
        "type": "application/x-test",
        "size": 200_000,
    }


def test_a_large_upload_takes_no_memory(site: Served) -> None:
    """S-REG-30: an UploadFile goes to the disk as it arrives, with a length and without."""
    boundary, size = "boundary", 64 << 20
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; name=file; filename=large\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()

    def body() -> object:
        yield head
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield tail

    before = site.resident()
    length = {"content-length": str(len(head) + size + len(tail))}
    for headers in (length, {}):
        kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
        answer = site.http.post("/upload", content=body(), headers={**kind, **headers})  # type: ignore[arg-type]
        assert answer.json()["size"] == size
    assert site.resident() < before + (48 << 20)


def test_background_tasks(site: Served) -> None:
    """S-ASGI-66: the response does not wait for them, and neither does the next request of the connection."""
    with site.raw() as client:
        answer = client.request("POST", "/background/posted", body=b"").answer()
        assert json.loads(answer.body) == {"accepted": "posted"}
        assert json.loads(client.get("/plain").body) == {"visitor": "nobody"}
    assert "posted" not in site.diary()
    site.http.post("/go-on")
    site.noted("posted")


# ---- WebSockets ------------------------------------------------------------------------------------------------------


def test_websocket(site: Served) -> None:
    with site.websocket("/rooms/blue?token=secret", subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat"
        socket.send("hello")
        assert json.loads(socket.recv()) == {"room": "blue", "said": "hello", "used": "connection"}
        socket.send(b"abc")
        assert socket.recv() == b"cba"
        socket.ping().wait(20)
        socket.close(4002)
    site.noted("left with 4002")
    until(lambda: site.diary().count("connected") == site.diary().count("released"), "releasing")


def test_websocket_is_closed_by_the_application(site: Served) -> None:
    """S-WS-15."""
    with site.websocket("/rooms/blue?token=secret") as socket:
        socket.send("end")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")


def test_websocket_is_refused(site: Served) -> None:
    """S-WS-05: close before accept is 403, and so is a path without a WebSocket."""
    for path in ("/rooms/blue?token=other", "/nothing"):
        with pytest.raises(InvalidStatus) as refused:
            site.websocket(path)
        assert refused.value.response.status_code == 403


@pytest.mark.ours("uvicorn cuts the connection")
def test_websocket_fails(site: Served) -> None:
    """S-WS-13: 1011, and the error in the log."""
    with site.websocket("/rooms/blue?token=secret") as socket:
        socket.send("fail")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    until(lambda: "LookupError: a fault of the WebSocket" in site.log(), "the error in the log")


@pytest.mark.ours("uvicorn gives 1005")
def test_websocket_client_vanishes(site: Served) -> None:
    """S-WS-17: 1006, and no error in the log."""
    before, log = site.diary().count("left with 1006"), site.log()
    socket = site.websocket("/rooms/blue?token=secret")
    socket.socket.shutdown(2)
    site.noted("left with 1006", before + 1)
    assert site.log() == log


@pytest.mark.ours("uvicorn's send waited first in 0.54, by a message count")
def test_websocket_client_does_not_read(site: Served) -> None:
    """S-REG-11, S-WS-22: send waits, and the memory stays."""
    before = site.resident()
    with site.websocket("/flood", max_queue=1, close_timeout=0.1) as socket:
        socket.recv(20)
        time.sleep(0.5)
        assert site.resident() < before + (64 << 20)


def test_many_clients_at_once(site: Served) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: site.http.get(f"/context/{n}").json(), range(200)))
    assert answers == [{"before": "nobody", "after": str(number)} for number in range(200)]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_a_download_is_completed(start: Start) -> None:
    """S-REG-13: SIGTERM does not cut it; the program ends after it."""
    site = start(APPLICATION)
    with site.raw() as client:
        client.request("GET", "/download").until(b"\r\n\r\n")
        client.exactly(3000)
        site.command.signal(signal.SIGTERM)
        client.exactly(12000)
    ended = site.command.finish()
    assert "shut down" in ended[1]
    if site.is_ours:
        clean(ended)


def test_the_end_with_an_open_stream(start: Start) -> None:
    """S-REG-14, S-CLI-26: a stream without an end is cut after the grace; its clean-up runs, and so does the lifespan's."""
    site = start(APPLICATION, "--shutdown-timeout", "1")
    with site.raw() as client:
        client.request("GET", "/events").until(b"data: first\n\n")
        asked = time.monotonic()
        site.command.signal(signal.SIGTERM)
        ended = site.command.finish()
        assert time.monotonic() - asked < 4
    assert "shut down" in ended[1]
    if site.is_ours:
        clean(ended)


@pytest.mark.parametrize("strips", [True, False])
def test_root_path(start: Start, strips: bool, request: pytest.FixtureRequest) -> None:
    """S-REG-26, S-ASGI-10: the documentation works behind proxies that strip the prefix, and behind those that do not."""
    site = start(APPLICATION, "--root-path", "/api")
    if not strips and not site.is_ours:
        pytest.skip("other servers: put the root path before every path")
    prefix = "" if strips else "/api"
    assert "'/api/openapi.json'" in site.http.get(f"{prefix}/docs").text
    assert site.http.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/api"}]
    assert site.http.get(f"{prefix}/plain").json() == {"visitor": "nobody"}
