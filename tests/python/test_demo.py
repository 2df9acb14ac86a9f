"""The demo that ``make run`` serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo" / "app.py"


@pytest.fixture
def address() -> object:
    with subprocess.Popen(
        [sys.executable, "-u", str(DEMO)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PORT": "0", "PATH": "/usr/bin:/bin"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "http://" in line:
                yield line[line.index("http://") :].split()[0].rstrip("/")
                break
        process.terminate()
        assert process.wait(20) == 0


def test_the_page_and_what_it_calls(address: str) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=address, timeout=20) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        for path in ("/style.css", "/demo.js"):
            assert client.get(path).status_code == 200, path
        assert client.get("/no/such/page").status_code == 404
