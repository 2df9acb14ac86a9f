"""A log line for each request, by a decorator of handlers.

Try it with:

    curl 'localhost:3000/?a=1'
"""

import functools
import logging
import time
from collections.abc import Callable

from socketify import App, Request, Response

logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
log = logging.getLogger("shop")


def logged(handler: Callable[[Response, Request], object]) -> Callable[[Response, Request], None]:
    @functools.wraps(handler)
    def wrapper(res: Response, req: Request) -> None:
        began = time.perf_counter()
        try:
            handler(res, req)
        finally:
            duration = (time.perf_counter() - began) * 1e6
            agent = req.get_headers().get("user-agent", "-")
            log.info("%s %s by %s: %.0f µs", req.get_method(), req.get_full_url(), agent, duration)

    return wrapper


@logged
def home(res: Response, req: Request) -> None:
    res.end("Look at the log\n")


app = App()
app.get("/", home)
app.listen(3000, lambda config: log.info("Listening on http://localhost:%d", config.port))
app.run()
