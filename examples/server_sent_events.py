"""Events from the server to every open page. A page that reconnects gets the events that it missed.

Open the page in several windows, or try it with:

    curl -N localhost:3000/events &
    curl -d hello localhost:3000/events
"""

from socketify import App, EventStream, Request, Response

PAGE = """<!doctype html>
<meta charset="utf-8">
<form><input name="text" autocomplete="off" autofocus> <button>Tell everybody</button></form>
<ul id="list"></ul>
<script>
  new EventSource("/events").onmessage = ({ data }) =>
    list.append(Object.assign(document.createElement("li"), { textContent: data }));
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    fetch("/events", { method: "POST", body: event.target.text.value });
    event.target.reset();
  };
</script>
"""

listeners: set[EventStream] = set()
history: list[str] = []


async def listen(res: Response, req: Request) -> None:
    async with res.events() as events:
        seen = int(events.last_event_id or 0)
        while seen < len(history):  # more events may come meanwhile
            seen += 1
            await events.send(history[seen - 1], id=str(seen))
        listeners.add(events)
        await events.wait_closed()
    listeners.discard(events)


async def tell(res: Response, req: Request) -> None:
    history.append(await req.text())
    for events in list(listeners):
        await events.send(history[-1], id=str(len(history)))
    res.write_status(204).end_without_body()


app = App()
app.get("/", lambda res, req: res.write_header("Content-Type", "text/html").end(PAGE))
app.get("/events", listen)
app.post("/events", tell)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
