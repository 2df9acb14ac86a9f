"""The demo that `make run` serves: a page of buttons, each of which runs a few lines of this file.

The page shows those lines too: it requests them, so that it shows the running code. PORT chooses the port
(3000), HOST the address (127.0.0.1, so that only this machine is served).
"""

import asyncio
import hashlib
import inspect
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import socketify
from socketify import App, AppListenOptions, Request, Response, sendfile

PUBLIC = Path(__file__).parent / "public"

sys.path.append(str(Path(__file__).parents[1] / "chat"))
import chat  # noqa: E402 - the example beside this one


async def index(res: Response, req: Request) -> None:
    await sendfile(res, req, PUBLIC / "index.html")


# ---- behind the buttons; narrow, for the page shows it -----------------------------------------

HELLO = {"en": "Hello", "de": "Hallo", "pt": "Olá", "ja": "こんにちは"}


def greet(res: Response, req: Request) -> None:
    name = unquote(req.get_parameter("name") or "")
    hello = HELLO.get(req.get_query("lang") or "en", "Hello")
    res.end(f"{hello}, {name}!")


async def statistics(res: Response, req: Request) -> None:
    numbers = await res.get_json()
    try:
        mean = sum(numbers) / len(numbers)
    except (TypeError, ZeroDivisionError):
        res.send({"error": "send a list of numbers"}, status=400)
    else:
        res.end({"mean": mean, "sorted": sorted(numbers)})


def upload(res: Response, req: Request) -> None:
    digest, size = hashlib.sha256(), 0

    def on_data(res: Response, chunk: bytes, last: bool) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        if last:
            res.end({"bytes": size, "sha256": digest.hexdigest()})

    res.on_data(on_data)


async def squares(res: Response, req: Request) -> None:
    for number in range(1, 25):
        res.write(f"{number * number} ")
        await asyncio.sleep(0.12)
        if res.aborted:
            return
    res.end("done")


async def wait(res: Response, req: Request) -> None:
    await asyncio.sleep(1)
    res.end("slept for a second")


def fail(res: Response, req: Request) -> None:
    raise ValueError("this handler always fails")


def on_error(
    error: Exception,
    res: Response | None,
    req: Request | None,
) -> None:
    if res:
        res.send({"error": repr(error)}, status=500)


def routes(app: App) -> None:
    app.get("/hello/:name", greet)
    app.post("/statistics", statistics)
    app.post("/upload", upload, max_body_size=2 * 1024**3)
    app.get("/squares", squares)
    app.get("/wait", wait)
    app.get("/fail", fail)
    app.set_error_handler(on_error)
    app.constant("/health", {"status": "ok"})
    chat.routes(app, "/chat/")
    app.static("/", PUBLIC)
    app.get("/", index)


# ---- the lines that the page shows -------------------------------------------------------------


def lines_of(*functions: Callable[..., object], route: str) -> str:
    """The source of some functions, and the line of `routes` that has `route` in it."""
    routing = [line.strip() for line in inspect.getsource(routes).splitlines() if route in line]
    return "\n\n".join([inspect.getsource(function).rstrip() for function in functions] + routing)


def about() -> dict[str, object]:
    """The data that the page requests when it opens."""
    return {
        "versions": f"socketify {socketify.__version__} · Python {platform.python_version()}",
        "sources": {
            "greet": lines_of(greet, route='app.get("/hello'),
            "statistics": lines_of(statistics, route='app.post("/statistics'),
            "upload": lines_of(upload, route='app.post("/upload'),
            "squares": lines_of(squares, route='app.get("/squares'),
            "wait": lines_of(wait, route='app.get("/wait'),
            "static": lines_of(route="app.static("),
            "constant": lines_of(route='app.constant("/health'),
            "chat": lines_of(chat.enter, chat.say, route="chat.routes("),
            "fail": lines_of(fail, on_error, route="app.set_error_handler("),
        },
    }


# ---- where it listens --------------------------------------------------------------------------


def main() -> None:
    wanted, host = os.environ.get("PORT", "3000"), os.environ.get("HOST", "127.0.0.1")
    if not wanted.isdecimal() or int(wanted) > 65535:
        sys.exit(f"PORT must be a number from 0 to 65535, not {wanted!r}")

    def listening(config: AppListenOptions) -> None:
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        print(f"\n  The demo is at http://{name}:{config.port}  (Ctrl+C ends it)\n", flush=True)

    app = App()
    routes(app)
    app.constant("/about", about())
    try:
        # Exclusive: a second demo must not silently share the port of the first.
        app.listen(AppListenOptions(port=int(wanted), host=host, options=1), listening)
    except RuntimeError as error:
        print(f"{error}. Taking a free port instead.")
        app.listen(AppListenOptions(host=host), listening)
    app.run()


if __name__ == "__main__":
    main()
