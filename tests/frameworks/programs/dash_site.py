"""A page of Dash with a callback."""

from __future__ import annotations

from dash import Dash, Input, Output, callback, dcc, html

page = Dash(__name__, title="A page of Dash")
page.layout = html.Div([html.H1("Heading"), dcc.Input(id="name", value="you"), html.Div(id="greeting")])


@callback(Output("greeting", "children"), Input("name", "value"))
def greet(name: str) -> str:
    return f"hello {name}"


server = page.server
