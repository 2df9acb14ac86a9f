"""Short links with Flask and SQLite, served by WSGI.

Try it with:

    pip install flask
    python -m socketify flask_links:app --threads 4
    curl -d url=https://example.org localhost:8000/        # gives a path such as /1
    curl -i localhost:8000/1
"""

import sqlite3

from flask import Flask, Response, abort, g, request

app = Flask(__name__)
app.config.from_mapping(DATABASE="links.sqlite")
app.config.from_prefixed_env()


def database() -> sqlite3.Connection:
    """The connection of this request: a request stays on one thread, and so does its connection."""
    if "database" not in g:
        g.database = sqlite3.connect(app.config["DATABASE"])
        g.database.execute(
            "CREATE TABLE IF NOT EXISTS links (id INTEGER PRIMARY KEY, url TEXT, clicks INT DEFAULT 0)"
        )
    connection: sqlite3.Connection = g.database
    return connection


@app.teardown_appcontext
def close(error: BaseException | None) -> None:
    if opened := g.pop("database", None):
        opened.close()


@app.post("/")
def create() -> tuple[str, int]:
    with database() as connection:
        created = connection.execute("INSERT INTO links (url) VALUES (?)", [request.form["url"]])
    return f"/{created.lastrowid}\n", 201


@app.get("/<int:number>")
def follow(number: int) -> Response:
    update = "UPDATE links SET clicks = clicks + 1 WHERE id = ? RETURNING url"
    with database() as connection:
        found = connection.execute(update, [number]).fetchone()
    if found is None:
        abort(404)
    return Response(status=302, headers={"Location": found[0]})


@app.get("/")
def all_links() -> list[dict[str, object]]:
    rows = database().execute("SELECT id, url, clicks FROM links")
    return [{"path": f"/{number}", "url": url, "clicks": clicks} for number, url, clicks in rows]
