"""A form with a file, from the page to the disk.

It needs the package `multipart`: pip install 'socketify[multipart]'. Try it with a browser, or with:

    curl -F title=Holidays -F photo=@photo.jpg localhost:3000/photos
"""

import tempfile
from pathlib import Path
from uuid import uuid4

from socketify import App, Request, Response

PAGE = """<!doctype html>
<form action="/photos" method="post" enctype="multipart/form-data">
  <input name="title" placeholder="Title"> <input name="photo" type="file" required> <button>Upload</button>
</form>
"""

folder = Path(tempfile.mkdtemp(prefix="photos-"))


def home(res: Response, req: Request) -> None:
    res.write_header("Content-Type", "text/html; charset=utf-8").end(PAGE)


async def upload(res: Response, req: Request) -> None:
    async with req.form(max_files=1) as form:  # a malformed or too large form gets an error response
        photo = form.files.get("photo")
        if photo is None:
            res.send("There is no photo", status=400)
            return
        path = folder / str(uuid4())  # never the client's own name
        await photo.save(path)
        res.end(f"{form.get('title') or photo.filename}: {photo.size} bytes in {path}\n")


app = App()
app.get("/", home)
app.post("/photos", upload, max_body_size=50 * 1024**2)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
