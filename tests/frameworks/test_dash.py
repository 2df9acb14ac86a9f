"""Dash, which is an application of Flask behind a page of JavaScript."""

from __future__ import annotations

import re

from serving import Served

APPLICATION = "dash_site:server"
INTERFACE = "wsgi"


def test_first_page(site: Served) -> None:
    """S-REG-35: the page, each script that it names, the layout and a callback."""
    page = site.http.get("/").text
    assert "<title>A page of Dash</title>" in page
    scripts = re.findall(r'<script src="(/[^"]+)"', page)
    assert len(scripts) > 3
    for script in scripts:
        answer = site.http.get(script)
        assert answer.status_code == 200, script
        assert len(answer.content) > 100
    assert "Heading" in site.http.get("/_dash-layout").text
    assert site.http.get("/_dash-dependencies").json()[0]["output"] == "greeting.children"
    request = {
        "output": "greeting.children",
        "outputs": {"id": "greeting", "property": "children"},
        "inputs": [{"id": "name", "property": "value", "value": "Ada"}],
        "changedPropIds": ["name.value"],
    }
    answer = site.http.post("/_dash-update-component", json=request)
    assert answer.json()["response"] == {"greeting": {"children": "hello Ada"}}
