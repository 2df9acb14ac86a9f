"""GraphQL over HTTP: queries by POST, and a page to try them.

Try it with:

    pip install graphql-core
    curl localhost:3000 -d '{"query": "{ user(id: 1) { name } }"}'
"""

import asyncio
from typing import Any

from graphql import build_schema, graphql

from socketify import App, Request, Response

PAGE = """<!DOCTYPE html>
<title>GraphQL</title>
<textarea id="query" cols="60" rows="8">{ user(id: 1) { name } }</textarea>
<button onclick="ask()">Ask</button>
<pre id="answer"></pre>
<script>
async function ask() {
  const answer = await fetch("/", {method: "POST", body: JSON.stringify({query: query.value})})
  document.getElementById("answer").textContent = JSON.stringify(await answer.json(), null, 2)
}
</script>
"""

schema = build_schema(
    """
    type User { name: String! }
    type Query { user(id: Int!): User }
    """
)
names = {1: "Ada", 2: "Grace"}


class Root:
    async def user(self, info: Any, id: int) -> dict[str, str] | None:  # noqa: A002, the name that the schema has
        await asyncio.sleep(0.001)  # as a database would
        return {"name": names[id]} if id in names else None


async def ask(res: Response, req: Request) -> None:
    body = await res.get_json()
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        res.send({"errors": [{"message": "a query is needed"}]}, status=400)
        return
    result = await graphql(
        schema,
        body["query"],
        Root(),
        context_value=req,
        variable_values=body.get("variables"),
        operation_name=body.get("operationName"),
    )
    res.end(result.formatted)


app = App()
app.get("/", lambda res, req: res.send(PAGE, content_type="text/html"))
app.post("/", ask)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
