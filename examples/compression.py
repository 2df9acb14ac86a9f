"""Responses that are compressed for clients that support it, as a whole and piece by piece.

Try it with:

    curl --compressed -i localhost:3000/
    curl --compressed -iN localhost:3000/pieces
    curl --compressed -i localhost:3000/as-it-is
"""

import asyncio

from socketify import App, Request, Response

app = App(compression=True)


def whole(res: Response, req: Request) -> None:
    res.send([{"id": number, "name": f"user {number}"} for number in range(1000)])


async def pieces(res: Response, req: Request) -> None:
    res.write_header("Content-Type", "text/plain")
    for number in range(5):
        # Each piece can be read as soon as it arrives.
        res.write(f"piece {number}\n" * 100)
        await asyncio.sleep(0.2)
    res.end("done\n")


def as_it_is(res: Response, req: Request) -> None:
    # For a response that repeats a part of the request beside a secret: its length would leak the secret.
    res.write_header("Content-Encoding", "identity")
    res.send("not compressed\n" * 1000)


app.get("/", whole)
app.get("/pieces", pieces)
app.get("/as-it-is", as_it_is)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/"))
app.run()
