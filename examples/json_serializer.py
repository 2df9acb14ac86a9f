"""JSON by another library: orjson supports dataclasses and dates, and returns bytes.

Try it with:

    pip install orjson
    curl localhost:3000
    curl localhost:3000 -d '{"name": "Ada"}'
"""

from dataclasses import dataclass
from datetime import date

import orjson

from socketify import App, Request, Response


@dataclass
class Person:
    name: str
    born: date


def home(res: Response, req: Request) -> None:
    res.end(Person("Ada", date(1815, 12, 10)))


async def greet(res: Response, req: Request) -> None:
    person = await res.get_json()
    res.end(
        {"hello": person["name"]} if isinstance(person, dict) and "name" in person else {"hello": "stranger"}
    )


app = App()
app.json_serializer(orjson)
app.get("/", home)
app.post("/", greet)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
