"""A clock with Quart: a page, and a WebSocket that tells it the time.

Try it with:

    pip install quart
    python -m socketify quart_clock:app
    open http://localhost:8000
"""

import asyncio
from datetime import datetime

from quart import Quart, websocket

app = Quart(__name__)

PAGE = """<!doctype html>
<title>Clock</title>
<h1 id="clock">?</h1>
<script>
  new WebSocket(`ws://${location.host}/time`).onmessage = (event) => (clock.textContent = event.data);
</script>
"""


@app.get("/")
async def home() -> str:
    return PAGE


@app.websocket("/time")
async def time() -> None:
    # Quart cancels this coroutine when the client has left.
    while True:
        await websocket.send(f"{datetime.now():%H:%M:%S}")
        await asyncio.sleep(1)
