"""An upload of any size in constant memory: its pieces are hashed as they arrive.

Try it with:

    curl --data-binary @some-large-file localhost:3000/upload
"""

import hashlib

from socketify import App, Request, Response


def upload(res: Response, req: Request) -> None:
    digest = hashlib.sha256()
    size = 0

    def on_data(res: Response, chunk: bytes, is_end: bool) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        if is_end:
            res.end({"bytes": size, "sha256": digest.hexdigest()})

    res.on_data(on_data)
    res.on_aborted(lambda res: print(f"The client left after {size} bytes"))


app = App()
app.post("/upload", upload, max_body_size=10 * 1024**3)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/upload"))
app.run()
