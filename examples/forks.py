"""A process for each core, all on one port: the kernel divides the connections.

Try it with:

    curl localhost:3000

Ctrl+C ends them all, since a terminal signals each process; elsewhere the first one passes the signal on.
"""

import os
import signal

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    res.end(f"answered by process {os.getpid()}\n")


def serve() -> None:
    app = App()  # made after the fork: threads do not survive one
    app.get("/", home)
    # The line feed is part of the text, so that two processes do not mix their lines.
    app.listen(
        3000,
        lambda config: print(f"Process {os.getpid()} listens on port {config.port}\n", end="", flush=True),
    )
    app.run()


children: list[int] = []
for _ in range(max(2, os.cpu_count() or 1) - 1):
    if not (child := os.fork()):
        children = []
        break
    children.append(child)
try:
    serve()
finally:
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
