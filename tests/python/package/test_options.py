"""Public names, options, constants and status codes: A.1, A.3, A.4, A-RES-39."""

from __future__ import annotations

import importlib

import pytest

import socketify
from socketify import AppListenOptions, AppOptions, CompressOptions, OpCode, SendStatus
from socketify.dataclasses import AppListenOptions as ListenOptionsAlias
from socketify.status_codes import status_codes


def test_listen_options_defaults() -> None:
    """A-DC-01."""
    options = AppListenOptions()
    assert (options.port, options.host, options.options, options.domain) == (0, None, 0, None)
    assert options == AppListenOptions(0, None, 0, None)
    assert repr(options) == "AppListenOptions(port=0, host=None, options=0, domain=None)"
    assert ListenOptionsAlias is AppListenOptions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "80"),
        ("port", None),
        ("port", 1.5),
        ("host", 1),
        ("host", b"localhost"),
        ("options", None),
        ("options", "1"),
        ("domain", b"/tmp/x.sock"),
    ],
)
def test_listen_options_types(field: str, value: object) -> None:
    """A-DC-01: the error names field and value."""
    with pytest.raises(RuntimeError, match=field) as raised:
        AppListenOptions(**{field: value})
    assert repr(value) in str(raised.value)


def test_bool_is_an_int() -> None:
    """A-DC-01."""
    options = AppListenOptions(port=True, options=True)
    assert type(options.port) is int
    assert (options.port, options.options) == (1, 1)


@pytest.mark.parametrize("others", [{"host": "localhost"}, {"port": 1}, {"host": "localhost", "port": 1}])
def test_domain_goes_alone(others: dict[str, object]) -> None:
    """A-DC-01."""
    with pytest.raises(RuntimeError, match=r"domain '/tmp/x\.sock'"):
        AppListenOptions(domain="/tmp/x.sock", **others)
    AppListenOptions(domain="", **others)


def test_domain_alone() -> None:
    """A-DC-01: an empty host and the port 0 are none."""
    assert AppListenOptions(domain="/tmp/x.sock", host="", port=0).domain == "/tmp/x.sock"


NAMES = [
    "key_file_name",
    "cert_file_name",
    "passphrase",
    "dh_params_file_name",
    "ca_file_name",
    "ssl_ciphers",
]


def test_app_options() -> None:
    """A-DC-02."""
    options = AppOptions("key", "cert", "pass", "dh", "ca", "ciphers", 1)
    assert [getattr(options, name) for name in NAMES] == ["key", "cert", "pass", "dh", "ca", "ciphers"]
    assert AppOptions() == AppOptions(*[None] * 6, ssl_prefer_low_memory_usage=0)
    assert options != AppOptions()


@pytest.mark.parametrize("name", NAMES)
def test_app_options_types(name: str) -> None:
    """A-DC-02."""
    # A passphrase appears in no text.
    shown = "a bytes" if name == "passphrase" else "b'x'"
    with pytest.raises(RuntimeError, match=f"{name} must be a str or None, not {shown}"):
        AppOptions(**{name: b"x"})


def test_app_options_low_memory() -> None:
    """A-DC-02."""
    with pytest.raises(RuntimeError, match="ssl_prefer_low_memory_usage must be an int, not '1'"):
        AppOptions(ssl_prefer_low_memory_usage="1")
    assert AppOptions(ssl_prefer_low_memory_usage=True).ssl_prefer_low_memory_usage == 1


def test_op_code() -> None:
    """A-EN-01."""
    expected = {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10}
    assert {item.name: item.value for item in OpCode} == expected


def test_send_status() -> None:
    """A-EN-02."""
    assert [int(item) for item in (SendStatus.BACKPRESSURE, SendStatus.SUCCESS, SendStatus.DROPPED)] == [
        0,
        1,
        2,
    ]


def test_compress_options() -> None:
    """A-EN-03."""
    both = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
    assert type(both) is int
    assert both == 257
    assert CompressOptions.DISABLED == 0
    assert CompressOptions.DEDICATED_COMPRESSOR is CompressOptions.DEDICATED_COMPRESSOR_256KB
    assert CompressOptions.DEDICATED_DECOMPRESSOR is CompressOptions.DEDICATED_DECOMPRESSOR_32KB


@pytest.mark.parametrize("item", [item for item in CompressOptions if item.name.startswith("DEDICATED")])
def test_compress_options_bits(item: CompressOptions) -> None:
    """A-EN-03: low byte compressor (window and memory level), bits 8 to 11 the decompressor's window."""
    size = item.name.rpartition("_")[2]
    window = {"512B": 9, "1KB": 10, "2KB": 11, "4KB": 12, "8KB": 13, "16KB": 14, "32KB": 15}
    if "DECOMPRESSOR" in item.name:
        assert item == window[size] << 8
    else:
        assert item < 256
        assert 9 <= item >> 4 <= 15
        assert 1 <= item & 15 <= 9


def test_status_codes() -> None:
    """A-RES-39."""
    ranges = [(100, 103), (200, 208), (226, 226), (300, 308), (400, 418), (421, 426), (428, 429), (431, 431)]
    ranges += [(451, 451), (500, 508), (510, 511)]
    assert list(status_codes) == [code for first, last in ranges for code in range(first, last + 1)]
    assert status_codes[200] == b"200 OK"
    assert all(text.startswith(b"%d " % code) and len(text) > 4 for code, text in status_codes.items())


A_1 = """App AppOptions AppListenOptions OpCode SendStatus CompressOptions Loop AppExtension WebSocket
Request Response ASGI WSGI SSGI sendfile middleware MiddlewareRouter TaskFactory create_task RequestTask
asyncio AppRequest AppResponse DecoratorRouter __version__"""


@pytest.mark.parametrize("name", A_1.split())
def test_public_names(name: str) -> None:
    """A-EXP-01 to A-EXP-22, A-EXP-24."""
    assert name in socketify.__all__
    assert getattr(socketify, name) is not None


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "helpers",
            "sendfile middleware sync_middleware async_middleware static_route in_directory "
            "DecoratorRouter MiddlewareRouter",
        ),
        ("socketify", "AppRequest AppResponse App WebSocket DecoratorRouter"),
        ("status_codes", "status_codes"),
        ("dataclasses", "AppOptions AppListenOptions"),
        ("loop", "Loop"),
        ("tasks", "RequestTask TaskFactory create_task"),
        ("asgi", "ASGI"),
        ("wsgi", "WSGI"),
        ("ssgi", "SSGI"),
    ],
)
def test_submodules(module: str, names: str) -> None:
    """A-EXP-23."""
    loaded = importlib.import_module(f"socketify.{module}")
    assert all(hasattr(loaded, name) for name in names.split())


def test_what_is_not_served_says_so() -> None:
    with pytest.raises(NotImplementedError, match="not served yet by this version"):
        socketify.SSGI(None)
