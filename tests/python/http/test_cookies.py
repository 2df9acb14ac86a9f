"""Cookies read and written: A-REQ-01, A-REQ-02, A-RES-02, DEC-9, I-S-35."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote, unquote_plus

import pytest

from socketify.cookies import format_cookie, get_cookie, get_cookies


class FakeRequest:
    """A request with nothing but a ``Cookie`` header."""

    def __init__(self, header: str | None) -> None:
        self.header = header
        self.reads = 0

    def get_header(self, name: str) -> str | None:
        assert name == "cookie"
        self.reads += 1
        return self.header


def read(header: str) -> dict[str, str]:
    jar = get_cookies(FakeRequest(header))
    return {name: morsel.value for name, morsel in jar.items()}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        ("  a = 1 ;\tb=2", {"a": "1", "b": "2"}),
        ("", {}),
        (";;", {}),
        ("a=", {"a": ""}),
        ("a==1=2", {"a": "=1=2"}),
        # Of several pairs with one name the last wins.
        ("a=1; b=2; a=3", {"a": "3", "b": "2"}),
        # No percent-decoding, plus signs stay.
        ("a=x%20y+z", {"a": "x%20y+z"}),
        # Quoted values are unquoted.
        ('a="x y"', {"a": "x y"}),
        (r'a="x\"y\\z"', {"a": r'x"y\z'}),
        (r'a="x\054y\073z"', {"a": "x,y;z"}),
        ('a="x;y"; b=2', {"a": "x;y", "b": "2"}),
        ('a="x;y" ; b=2', {"a": "x;y", "b": "2"}),
        ('a="', {"a": '"'}),
        ('a="open; b=2', {"a": '"open', "b": "2"}),
        ('a="x"y; b=2', {"a": '"x"y', "b": "2"}),
        # A pair that is none, or has an odd name, leaves the others alone.
        ("nothing; a=1", {"a": "1"}),
        ("=1; a=1", {"a": "1"}),
        ("a=1; b c=2; d=3", {"a": "1", "b c": "2", "d": "3"}),
        ("a,b=1; c=2", {"a,b": "1", "c": "2"}),
        ("a[0]=1; c=2", {"a[0]": "1", "c": "2"}),
        ("a=x\ty; b=2", {"b": "2"}),
        # Names that are attributes of Set-Cookie are names like any other here.
        ("a=1; path=2; $Version=1", {"a": "1", "path": "2", "$Version": "1"}),
        ("a=é", {"a": "é"}),
    ],
)
def test_header_is_read_pair_by_pair(header: str, expected: dict[str, str]) -> None:
    """A-REQ-01, I-C-21."""
    assert read(header) == expected


def test_without_a_header_there_are_no_cookies() -> None:
    """A-REQ-02."""
    request = FakeRequest(None)
    assert get_cookies(request) is None
    assert get_cookie(request, "a") is None


def test_jar_is_a_simple_cookie() -> None:
    """A-REQ-02."""
    jar = get_cookies(FakeRequest("a=1; b=2"))
    assert isinstance(jar, SimpleCookie)
    assert jar["a"].value == "1"
    assert jar["b"].key == "b"
    assert "Set-Cookie: a=1" in jar.output()


def test_one_cookie() -> None:
    """A-REQ-01, I-S-33."""
    request = FakeRequest("a=1; b=2")
    assert get_cookie(request, "b") == "2"
    assert get_cookie(request, b"b") == "2"
    assert get_cookie(request, "B") is None
    assert get_cookie(request, "c") is None


def test_header_is_parsed_once() -> None:
    """A-REQ-01."""
    request = FakeRequest("a=1")
    assert get_cookies(request) is get_cookies(request)


@pytest.mark.parametrize("filler", [" ", '"', "\\", 'a="\\"', '="', ";", "=", '\\"', '"\\054'])
@pytest.mark.alone
def test_reading_takes_linear_time(filler: str) -> None:
    """A header of 64 KiB must not cost more than some milliseconds."""
    header = "a=" + filler * (65536 // len(filler))
    started = time.perf_counter()
    read(header + "; b=2")
    read('a="' + header)
    read('a="' + filler * (65536 // len(filler)) + '"')
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "abc"),
        ("", ""),
        ("a b", "a%20b"),
        ("a+b;c,d\r\n", "a%2Bb%3Bc%2Cd%0D%0A"),
        ("é/", "%C3%A9%2F"),
        (b"\xff a", "%FF%20a"),
        (1, "1"),
        (1.5, "1.5"),
        (True, "True"),
    ],
)
def test_value_is_percent_encoded(value: object, text: str) -> None:
    """DEC-9, I-C-09, I-C-10."""
    assert format_cookie("name", value) == f"name={text}"
    if isinstance(value, str):
        assert unquote(text) == unquote_plus(text) == value


@pytest.mark.parametrize("value", [None, [], {}, object()])
def test_value_of_another_type(value: object) -> None:
    """I-C-09: the error names the cookie."""
    with pytest.raises(TypeError, match="'session'"):
        format_cookie("session", value)


def test_all_options() -> None:
    """I-S-35, A-RES-02: keys in any case."""
    options = {
        "expires": "Wed, 21 Oct 2015 07:28:00 GMT",
        "Path": "/",
        "comment": "why not",
        "DOMAIN": b".example.com",
        "max-age": 60,
        "secure": True,
        "HttpOnly": 1,
        "version": 1,
        "samesite": "None",
    }
    assert format_cookie("a", "1", options) == (
        "a=1; Comment=why not; Domain=.example.com; expires=Wed, 21 Oct 2015 07:28:00 GMT; HttpOnly; "
        "Max-Age=60; Path=/; SameSite=None; Secure; Version=1"
    )


def test_options_that_are_off() -> None:
    options = {"secure": False, "httponly": 0, "path": None, "domain": "", "samesite": None}
    assert format_cookie("a", "1", options) == "a=1"
    assert format_cookie("a", "1", {}) == format_cookie("a", "1", None) == "a=1"
    assert format_cookie("a", "1", {"max-age": 0}) == "a=1; Max-Age=0"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2030, 1, 2, 12, 0, 0),
        datetime(2030, 1, 2, 12, 0, 0, tzinfo=timezone.utc),
        datetime(2030, 1, 2, 14, 0, 0, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_expires_as_datetime(moment: datetime) -> None:
    """A-RES-02, I-C-40, I-S-37: naive is GMT, aware is converted."""
    assert format_cookie("a", "1", {"expires": moment}) == "a=1; expires=Wed, 02 Jan 2030 12:00:00 GMT"


@pytest.mark.parametrize("seconds", [1800, 1800.5, -60, 0])
def test_expires_as_seconds_from_now(seconds: float) -> None:
    """A-RES-02."""
    text = format_cookie("a", "1", {"expires": seconds}).partition("expires=")[2]
    assert text.endswith(" GMT")
    assert abs(parsedate_to_datetime(text).timestamp() - time.time() - seconds) < 3


@pytest.mark.parametrize("key", ["color", "max_age", "", 1, None])
def test_unknown_option(key: object) -> None:
    """A-RES-02: the error names it and what there is."""
    with pytest.raises(CookieError, match=r"unknown cookie option .*comment, domain, .*samesite"):
        format_cookie("a", "1", {key: "x"})


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "a\r\nb", "a\0", "é", "a,b", '"a"'])
def test_name_that_is_none(name: str) -> None:
    with pytest.raises(CookieError, match="not a valid cookie name"):
        format_cookie(name, "1")


@pytest.mark.parametrize("name", ["path", "__Host-id", b"id", "a.b:c"])
def test_name_that_is_one(name: str | bytes) -> None:
    text = name.decode() if isinstance(name, bytes) else name
    assert format_cookie(name, "1") == f"{text}=1"


@pytest.mark.parametrize("key", ["path", "domain", "comment", "samesite", "expires", "max-age", "version"])
@pytest.mark.parametrize("text", ["/\r\nSet-Cookie: b=2", "/; HttpOnly", "a\0b", "a\x7f", b"a\nb"])
def test_options_cannot_inject(key: str, text: object) -> None:
    """I-C-32."""
    with pytest.raises(CookieError, match=key):
        format_cookie("a", "1", {key: text})


@pytest.mark.parametrize(
    ("name", "options"), [("a", "path=/"), ("a", [("path", "/")]), (None, None), ("a", {"path": object()})]
)
def test_wrong_types(name: object, options: object) -> None:
    with pytest.raises(TypeError):
        format_cookie(name, "1", options)
