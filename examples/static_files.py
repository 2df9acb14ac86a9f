"""A served directory, a page for missing files, and one file from a handler.

Try it with:

    curl localhost:3000/files/static_files.py
    curl -r 0-99 localhost:3000/files/static_files.py
    curl localhost:3000/download
    curl localhost:3000/files/nothing
"""

from pathlib import Path

from socketify import App, Request, Response, sendfile

HERE = Path(__file__).parent


async def download(res: Response, req: Request) -> None:
    res.write_header("Content-Disposition", 'attachment; filename="program.py"')
    await sendfile(res, req, __file__)


def missing(res: Response, req: Request) -> None:
    res.write_status(404).end(f"There is no {req.get_url()}.\n")


app = App()
app.static("/files", HERE, cache_control="no-cache")  # no Python runs for these
app.get("/download", download)
app.any("/*", missing)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/files/static_files.py"))
app.run()
