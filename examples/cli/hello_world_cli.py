"""Hello, world, served by the command line: the module registers routes, the command sets the address and the
number of processes.

Try it with:

    python -m socketify hello_world_cli:run --port 8080 --workers 2
    curl localhost:8080
"""

import os

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    res.end(f"Hello, World! This is process {os.getpid()}.\n")


def run(app: App) -> None:
    app.get("/", home)
