"""Applications that configure logging themselves."""

from __future__ import annotations

import pytest

from conftest import Start
from support import until


@pytest.mark.ours("their logs differ")
@pytest.mark.parametrize(("kind", "handlers"), [("basic", 1), ("dict", 1), ("none", 0)])
def test_each_line_is_there_once(start: Start, kind: str, handlers: int) -> None:
    """S-REG-29: those of the application and of the access log, and the root logger stays as it was."""
    site = start("logging_site:app", "--access-log", "true", interface="wsgi", LOGGING=kind)
    assert site.http.get("/").text == "home"
    assert site.http.get("/loggers").json()["handlers"] == handlers
    until(lambda: "/loggers" in site.log(), "the access log")
    log = site.end()[2]
    assert log.count("somebody is here") == 1
    assert log.count("/loggers") == 1
    if handlers:
        assert "OURS shop somebody is here" in log
