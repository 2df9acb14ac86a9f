"""Pages by Jinja2, with escaped values.

Try it with:

    pip install socketify[jinja2]
    curl 'localhost:3000/?name=<b>Ada</b>'
"""

from pathlib import Path

from socketify import App, Request, Response
from socketify.templates import Jinja2Template


def home(res: Response, req: Request) -> None:
    res.render("home.html", title="Hello", name=req.get_query("name") or "you", fruits=["apples", "pears"])


app = App()
app.template(Jinja2Template(Path(__file__).parent / "templates"))
app.get("/", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
