"""Settings without an option of the command line: a factory makes the application, with limits of its own,
from the environment.

Try it with:

    GREETING=Hi python -m socketify settings:create --reload
    curl localhost:8000
"""

import os

from socketify import App, Request, Response


def create() -> App:
    greeting = os.environ.get("GREETING", "Hello")
    app = App(max_body_size=1024 * 1024, shutdown_timeout=20)

    def home(res: Response, req: Request) -> None:
        res.end(f"{greeting}, World!\n")

    app.get("/", home)
    return app
