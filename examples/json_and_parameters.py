"""A small JSON API: a parameter of the path, a query, and a body.

Try it with:

    curl localhost:3000/books/1
    curl 'localhost:3000/books?author=le+guin'
    curl localhost:3000/books -d '{"title": "Dune", "author": "Herbert"}'
"""

from socketify import App, Request, Response

books = {1: {"title": "The Dispossessed", "author": "Le Guin"}, 2: {"title": "Solaris", "author": "Lem"}}


def show(res: Response, req: Request) -> None:
    number = req.get_parameter("number") or ""
    book = books.get(int(number)) if number.isdecimal() else None
    if book is None:
        res.send({"error": "no such book"}, status=404)
    else:
        res.end(book)  # a dict goes out as JSON


def search(res: Response, req: Request) -> None:
    author = (req.get_query("author") or "").lower()
    res.end([book for book in books.values() if author in book["author"].lower()])


async def add(res: Response, req: Request) -> None:
    book = await res.get_json()  # None when the body is not JSON
    if not isinstance(book, dict) or not {"title", "author"} <= book.keys():
        res.send({"error": "title and author are needed"}, status=400)
        return
    number = max(books) + 1
    books[number] = {"title": str(book["title"]), "author": str(book["author"])}
    res.write_status(201).write_header("Location", f"/books/{number}").end(books[number])


app = App()
app.get("/books/:number", show)
app.get("/books", search)
app.post("/books", add)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/books"))
app.run()
