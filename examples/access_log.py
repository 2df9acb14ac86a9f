"""The access log: one line for each response, through the standard library's logging.

Try it with:

    curl localhost:3000/
    curl localhost:3000/nothing
"""

import logging

from socketify import App, Request, Response

handler = logging.StreamHandler()
handler.setFormatter(
    logging.Formatter("%(asctime)s %(remote_address)s %(method)s %(path)s: %(status)s, %(bytes)s bytes")
)
access = logging.getLogger("socketify.access")
access.setLevel(logging.INFO)
access.addHandler(handler)
# Its lines have a format of their own, so the handlers of other loggers must not get them.
access.propagate = False


def home(res: Response, req: Request) -> None:
    res.end("Hello, World!")


app = App(access_log=access)
app.get("/", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/"))
app.run()
