"""Applications of one interface that an adapter serves by the other."""

from __future__ import annotations

import pytest

from conftest import Start


@pytest.mark.parametrize(
    ("name", "interface", "text"),
    [
        ("starlette_as_wsgi", "wsgi", "starlette"),
        ("flask_as_asgi", "asgi", "flask"),
    ],
)
def test_adapter(start: Start, name: str, interface: str, text: str) -> None:
    """S-REG-35."""
    site = start(f"adapted_sites:{name}", interface=interface)
    for _ in range(3):
        answer = site.http.get("/")
        assert answer.text == text, site.log()
        uploaded = site.http.post("/upload", content=b"x" * 300_000)
        assert uploaded.text == "300000", site.log()
        assert site.http.get("/none").status_code == 404, site.log()
    site.end()
