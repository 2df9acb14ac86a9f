"""An API for pages of other origins: one shop's pages with their cookies, all pages for public data.

Try it with:

    curl -i -H "Origin: https://shop.example" localhost:3000/cart
    curl -i -X OPTIONS -H "Origin: https://shop.example" -H "Access-Control-Request-Method: PUT" localhost:3000/cart
    curl -i -H "Origin: https://anybody.example" localhost:3000/public/prices
"""

from socketify import App, Request, Response


async def put_cart(res: Response, req: Request) -> None:
    res.end({"saved": await req.json()})


app = App()
app.cors("https://shop.example", credentials=True, expose=["ETag"])
app.cors("*", path="/public/*")
app.get("/cart", lambda res, req: res.end({"items": []}))
app.put("/cart", put_cart)
app.get("/public/prices", lambda res, req: res.end({"tea": 3}))
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/cart"))
app.run()
