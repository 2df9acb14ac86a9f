"""Options and constants of the public API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import IntEnum
from typing import Any

#: As the core's own; the system cuts it to its `somaxconn`.
_BACKLOG = 4096
#: The fields of `AppListenOptions` in socketify.py.
_ORIGINAL = ("port", "host", "options", "domain")

__all__ = ["AppListenOptions", "AppOptions", "CompressOptions", "OpCode", "SendStatus"]


def _option(default: Any, help_text: str, *, number: bool = False, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help_text, "number": number})


#: What ``AppOptions.client_cert`` takes.
CLIENT_CERT = ("none", "optional", "required")
#: What ``AppOptions.min_version`` takes.
MIN_VERSION = ("1.2", "1.3", "TLSv1.2", "TLSv1.3")


def _choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise RuntimeError(f"{name} must be one of {', '.join(map(repr, choices))} or None, not {value!r}")


def _check(options: object, item: Field[Any]) -> None:
    """A number takes an ``int``, a flag a ``bool``, what is marked ``int`` or None, anything else ``str`` or None."""
    value = getattr(options, item.name)
    if item.metadata.get("number"):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise RuntimeError(f"{item.name} must be an int or None, not {value!r}")
    elif isinstance(item.default, bool):
        if not isinstance(value, bool):
            raise RuntimeError(f"{item.name} must be a bool, not {value!r}")
    elif isinstance(item.default, int):
        if not isinstance(value, int):
            raise RuntimeError(f"{item.name} must be an int, not {value!r}")
        if isinstance(value, bool):
            setattr(options, item.name, int(value))
    elif value is not None and not isinstance(value, str):
        shown = repr(value) if item.repr else f"a {type(value).__name__}"
        raise RuntimeError(f"{item.name} must be a str or None, not {shown}")


@dataclass
class AppListenOptions:
    """Where to listen.

    Attributes:
        port: TCP port; 0, the default, takes any free one.
        host: Host name or address to listen on; None, the default, means all interfaces.
        options: 0, the default, lets processes of one process group, such as those that a program has forked, share
            the port; 1 takes it exclusively, which alone keeps out processes that say ``reuse_port=True``.
        domain: Path of a UNIX domain socket to listen on instead; None, the default, means TCP. It goes with
            neither ``host`` nor ``port``. With ``"@"`` or NUL before it, it is a name of Linux's abstract namespace,
            which is no file.
        mode: Permissions of the UNIX domain socket's file, such as ``0o660``: who may write may connect. None, the
            default, is ``0o700``, the user alone. They hold from the first moment, whatever the umask.
        backlog: Connections that the system keeps until they are accepted. Default 4096, and at most what the system's
            ``somaxconn`` says.
        fd: Number of a file descriptor to serve, a socket that listens already; None, the default, for none. It goes
            with none of the others and stays the caller's. The socket does not block any more, for all who share it.
        reuse_port: True takes a share of the port without looking at who listens there: processes of the same user, of
            this group or another, that have not taken it exclusively. Default False.

    Raises:
        RuntimeError: A field is of the wrong type or out of range, or given together with one that it does not go with.
    """

    port: int = _option(0, "TCP port; 0 takes any free one")
    host: str | None = _option(None, "host name or address to listen on; all interfaces if not given")
    options: int = _option(0, "0: several processes may share the port; 1: the port is taken exclusively")
    domain: str | None = _option(None, "path of a UNIX domain socket to listen on instead of TCP")
    mode: int | None = _option(None, "permissions of the UNIX domain socket; 0o700 if not given", number=True)
    backlog: int = _option(_BACKLOG, "connections that the kernel keeps until they are accepted")
    fd: int | None = _option(None, "file descriptor of a socket that listens already", number=True)
    reuse_port: bool = _option(False, "whether to share the port with processes of other groups")

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(self, item)
        if not 0 <= self.backlog < 2**31:
            raise RuntimeError(f"backlog must be from 0 to {2**31 - 1}, not {self.backlog}")
        self._check_mode()
        if self.reuse_port and self.options & 1:
            raise RuntimeError(
                "options=1 takes the port exclusively, reuse_port=True shares it: give one of them"
            )
        if self.fd is not None:
            if self.fd < 0:
                raise RuntimeError(f"fd must be the number of a file descriptor, not {self.fd}")
            if self.domain or self.host or self.port:
                raise RuntimeError(
                    f"fd {self.fd} listens already: host, port and domain must not be given with it, "
                    f"not {self.host!r}, {self.port!r} and {self.domain!r}"
                )
        if self.domain and (self.host or self.port != 0):
            raise RuntimeError(
                f"domain {self.domain!r} is a UNIX domain socket, which has no host and no port: "
                f"host must be None and port 0, not {self.host!r} and {self.port!r}"
            )

    def __repr__(self) -> str:
        # What socketify.py has no name for is shown where it says something.
        shown = [
            item
            for item in fields(self)
            if item.name in _ORIGINAL or getattr(self, item.name) != item.default
        ]
        return f"AppListenOptions({', '.join(f'{item.name}={getattr(self, item.name)!r}' for item in shown)})"

    def _check_mode(self) -> None:
        if self.mode is None:
            return
        if not 0 <= self.mode <= 0o777:
            raise RuntimeError(f"mode must be permissions from 0 to 0o777, such as 0o660, not {self.mode:#o}")
        if not self.domain or self.domain.startswith(("@", "\0")):
            raise RuntimeError(
                f"mode {self.mode:#o} is of the file of a UNIX domain socket: domain must be its path, "
                f"not {self.domain!r}"
            )


@dataclass
class AppOptions:
    """TLS settings. An application that gets one, even an empty one, serves TLS 1.2 and 1.3 and no plain HTTP.

    Attributes:
        key_file_name: PEM file with the private key: PKCS#8, PKCS#1 or SEC1, encrypted or not. RSA from 2048 bits, ECDSA or
            Ed25519.
        cert_file_name: PEM file with the certificate and, behind it, its chain.
        passphrase: Passphrase of an encrypted private key. It does not show in ``repr``.
        dh_params_file_name: PEM file with Diffie-Hellman parameters. It is checked and not used, which a warning says: keys
            are exchanged on elliptic curves.
        ca_file_name: PEM file with the authorities that certificates of clients are verified with.
        ssl_ciphers: Ciphers in the order in which they are preferred: a list as OpenSSL takes it, or names of IANA, with
            ``:`` between them. One without a cipher of TLS 1.3 leaves those of TLS 1.3 as they are.
        ssl_prefer_low_memory_usage: Not 0: no session is remembered for clients of TLS 1.2 without tickets, else at most 256
            are. Buffers of idle connections are given back in any case. Default 0.
        client_cert: Whether clients are asked for a certificate: ``"none"``; ``"optional"``, which also serves those that
            have none; or ``"required"``. One that cannot be verified is refused. None, the default, is ``"optional"`` with a
            ``ca_file_name`` and ``"none"`` without.
        min_version: The oldest version of TLS: ``"1.2"``, the default, or ``"1.3"``; ``"TLSv1.2"`` and ``"TLSv1.3"`` are the
            same.

    Every name is None by default, which means that it is not used.

    Raises:
        RuntimeError: A field is of the wrong type, or ``client_cert`` or ``min_version`` is none of these.
    """

    key_file_name: str | None = _option(None, "PEM file with the private key")
    cert_file_name: str | None = _option(None, "PEM file with the certificate and its chain")
    passphrase: str | None = _option(None, "passphrase of an encrypted private key", secret=True)
    dh_params_file_name: str | None = _option(None, "PEM file with Diffie-Hellman parameters")
    ca_file_name: str | None = _option(None, "PEM file with the authorities of trusted client certificates")
    ssl_ciphers: str | None = _option(None, "cipher list, in OpenSSL's or IANA's names")
    ssl_prefer_low_memory_usage: int = _option(0, "not 0: no sessions are stored")
    client_cert: str | None = _option(None, "whether clients show certificates: none, optional or required")
    min_version: str | None = _option(None, "oldest version of TLS: 1.2 or 1.3")

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(self, item)
        _choice("client_cert", self.client_cert, CLIENT_CERT)
        _choice("min_version", self.min_version, MIN_VERSION)


class OpCode(IntEnum):
    """Kind of a WebSocket frame (RFC 6455 section 5.2); BINARY is the default of all that sends."""

    CONTINUATION = 0
    """Goes on with a message in fragments."""
    TEXT = 1
    """Text; listeners get it as ``str``."""
    BINARY = 2
    """Bytes."""
    CLOSE = 8
    """Ends the socket; ``ws.end`` sends it."""
    PING = 9
    """Asks for a pong; at most 125 bytes."""
    PONG = 10
    """Answers a ping; at most 125 bytes."""


class SendStatus(IntEnum):
    """What became of a WebSocket message. Compare by name: BACKPRESSURE is false but means queued."""

    BACKPRESSURE = 0
    """Queued, since the socket has no room at the moment."""
    SUCCESS = 1
    """On its way."""
    DROPPED = 2
    """Refused, because too much is queued or the connection is closed."""


class CompressOptions(IntEnum):
    """Compression of WebSocket messages (RFC 7692).

    Combine one compressor and one decompressor with ``|``, which gives an ``int``; what is left out is shared. A
    shared one takes each message alone. A dedicated one remembers the end of what went before, which makes
    messages smaller and takes memory for each connection: a decompressor what its name says, a compressor an
    eighth of that, from 512 bytes.
    """

    DISABLED = 0
    """No compression: the default."""
    SHARED_COMPRESSOR = 1
    """Each message alone."""
    SHARED_DECOMPRESSOR = 256
    """Each message alone."""
    DEDICATED_DECOMPRESSOR_32KB = 3840
    DEDICATED_DECOMPRESSOR_16KB = 3584
    DEDICATED_DECOMPRESSOR_8KB = 3328
    DEDICATED_DECOMPRESSOR_4KB = 3072
    DEDICATED_DECOMPRESSOR_2KB = 2816
    DEDICATED_DECOMPRESSOR_1KB = 2560
    DEDICATED_DECOMPRESSOR_512B = 2304
    DEDICATED_DECOMPRESSOR = 3840
    DEDICATED_COMPRESSOR_3KB = 145
    DEDICATED_COMPRESSOR_4KB = 146
    DEDICATED_COMPRESSOR_8KB = 163
    DEDICATED_COMPRESSOR_16KB = 180
    DEDICATED_COMPRESSOR_32KB = 197
    DEDICATED_COMPRESSOR_64KB = 214
    DEDICATED_COMPRESSOR_128KB = 231
    DEDICATED_COMPRESSOR_256KB = 248
    DEDICATED_COMPRESSOR = 248


def listen_options(given: Any) -> AppListenOptions:
    """One form for everything `App.listen` takes: nothing, a port, a mapping, or an object with the same attributes.

    Raises:
        RuntimeError: It is none of these, or a value is out of range.
    """
    if given is None:
        return AppListenOptions()
    if isinstance(given, int):
        return AppListenOptions(port=_port(given))
    if isinstance(given, Mapping):
        known = [item.name for item in fields(AppListenOptions)]
        unknown = set(given) - set(known)
        if unknown:
            raise RuntimeError(f"listen() does not know {sorted(unknown)}: expected {', '.join(known)}")
        values = dict(given)
        if values.get("domain"):
            # D-L-04: the defaults of a dict are not those of a socket's path.
            values.pop("port", None)
            values.pop("host", None)
        elif values.get("fd") is None:
            values = {"host": "0.0.0.0", **values}
        options = AppListenOptions(**values)
    else:
        try:
            options = AppListenOptions(
                port=given.port,
                host=given.host,
                options=given.options or 0,
                domain=given.domain,
                # D-L-13: other objects have the four fields above.
                mode=getattr(given, "mode", None),
                backlog=getattr(given, "backlog", _BACKLOG),
                fd=getattr(given, "fd", None),
                reuse_port=getattr(given, "reuse_port", False),
            )
        except AttributeError as error:
            raise RuntimeError(f"listen() takes a port, a dict or AppListenOptions, not {given!r}") from error
    _port(options.port)
    return options


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise RuntimeError(f"Failed to listen on port {port}: a port is a number from 0 to 65535")
    return port
