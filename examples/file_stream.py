"""A file sent by hand, piece by piece, each after the previous one was accepted: here in upper case, which
`sendfile` cannot do.

Try it with:

    curl localhost:3000/
    curl -r 4-8 localhost:3000/
"""

import asyncio
import os

from socketify import App, Request, Response

PIECE = 64 * 1024


async def shout(res: Response, req: Request) -> None:
    # A disk may be slow: another thread waits for it.
    with await asyncio.to_thread(open, __file__, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start, end = 0, size
        asked = (req.get_header("range") or "").removeprefix("bytes=").partition("-")
        if asked[0].isdecimal() and asked[2].isdecimal() and int(asked[0]) <= int(asked[2]) < size:
            start, end = int(asked[0]), int(asked[2]) + 1
            res.write_status(206).write_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        res.write_header("Content-Type", "text/plain")
        file.seek(start)
        left = end - start
        while left:
            piece = await asyncio.to_thread(file.read, min(PIECE, left))
            _, done = await res.send_chunk(piece.upper(), end - start)
            if done:  # complete, or the client has gone
                return
            left -= len(piece)


app = App()
app.get("/", shout)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
