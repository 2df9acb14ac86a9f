"""Random bytes for the parsers in Python: forms, multipart bodies, cookies and content types.

Each round makes its input from a seed of its own: half of it is well-formed and then changed. It checks
properties of every input: only exceptions with a response for the client, nothing above the limits, the same
result for any pieces of the body, well-formed input is read back, and no input is slow. A failure prints its
seed, and `--seed` runs that round alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from http.cookies import CookieError
from typing import Any
from urllib.parse import quote_plus

from socketify import content_type, cookies
from socketify import multipart as parts
from socketify.exceptions import BadRequest, ContentTooLarge, UnsupportedMediaType
from socketify.forms import FormReader

#: Seconds that one input may take on a busy machine. All of them are shorter than 20 KB: a longer time is not
#: linear.
LONGEST = 2.0
REFUSALS = (BadRequest, ContentTooLarge, UnsupportedMediaType)

ATOMS = [
    *(bytes([byte]) for byte in range(256)),
    b"\r\n", b"--", b"name", b"filename", b"filename*=utf-8''", b"form-data", b"Content-Disposition: ", b"%00", b"%zz", b"+",
    b'\\"', b"; ", b"=", b"&", b"charset", b"boundary", b"utf-8", b"utf-7", b"\xff\xfe", b"\xc3\x28", b"..", b"/", b"a" * 70,
]  # fmt: skip


class Request:
    """The part of a request that the parsers use."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers

    def get_header(self, name: str) -> str | None:
        return self.headers.get(name)


class Response:
    """The part of a response that they use: a body that arrives in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def whole(self) -> bytes | None:
        return self.pieces[0] if len(self.pieces) == 1 else None

    def piece(self) -> tuple[bytes, bool]:
        piece = self.pieces.pop(0) if self.pieces else b""
        return piece, not self.pieces

    def has_responded(self) -> bool:
        return False


def noise(rng: random.Random, most: int = 40) -> bytes:
    """Bytes that are sometimes meaningful to one of the parsers."""
    return b"".join(rng.choice(ATOMS) for _ in range(rng.randrange(most)))


def bend(rng: random.Random, data: bytes) -> bytes:
    """The same with a few changes."""
    result = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(4):
            case 0:
                result[at:at] = noise(rng, 4)
            case 1:
                del result[at : at + rng.randrange(8)]
            case 2:
                result[at:at] = result[at : at + rng.randrange(30)]
            case _:
                result[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(result)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """Its pieces, one at least."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def word(rng: random.Random) -> str:
    return "".join(rng.choice("abcXYZ019 _-.äß日\U0001f600") for _ in range(rng.randrange(12)))


def outcome(read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The result, or the client's error. It runs without an event loop, since the body never blocks."""
    coroutine = read()
    try:
        coroutine.send(None)
    except StopIteration as result:
        return result.value
    except REFUSALS as refusal:
        return type(refusal)
    finally:
        coroutine.close()
    raise AssertionError("it waits, and there is nothing to wait for")


def equal(found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


# ---- forms ----------------------------------------------------------------------------------------------------------


def check_urlencoded(rng: random.Random) -> None:
    pairs = [(word(rng), word(rng)) for _ in range(rng.randrange(8))]
    body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode()
    is_bent = rng.random() < 0.6
    if is_bent:
        body = bend(rng, body) if rng.random() < 0.5 else noise(rng, 200)
    limit = rng.choice([3, 1000])
    kind = rng.choice(["", "; charset=utf-8", "; charset=latin-1", "; charset=nothing"])
    request = Request({"content-type": "application/x-www-form-urlencoded" + kind})

    async def read() -> list[tuple[str, str]]:
        form = await FormReader(request, Response([body]), max_fields=limit)  # type: ignore[arg-type]
        return form.multi_items()

    found = outcome(read)
    if isinstance(found, list):
        if len(found) > limit:
            raise AssertionError(f"{len(found)} fields, and {limit} are allowed")
        if not is_bent and "latin" not in kind:
            # Not every reader of forms accepts a field with an empty name and an empty value.
            equal([pair for pair in found if pair != ("", "")], [pair for pair in pairs if pair != ("", "")])


def multipart(rng: random.Random, boundary: str) -> tuple[bytes, list[tuple[str, str | None, bytes]]]:
    """A body, and the name, file name and bytes of each part."""
    expected, body = [], b""
    for _ in range(rng.randrange(5)):
        name = word(rng)
        filename = rng.choice([None, word(rng).replace("/", "")])
        data = noise(rng, 30)
        if f"\r\n--{boundary}".encode() in b"\r\n" + data:
            continue
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
        expected.append((name, filename, data))
    return body + f"--{boundary}--\r\n".encode(), expected


def check_multipart(rng: random.Random) -> None:
    boundary = rng.choice(["b", "x-y", "B" * 70, "'()+_,-./:=?"])
    body, expected = multipart(rng, boundary)
    is_bent = rng.random() < 0.6
    if is_bent:
        body = bend(rng, body) if rng.random() < 0.8 else noise(rng, 200)
    quoted = f'"{boundary}"' if rng.random() < 0.5 or "(" in boundary else boundary
    request = Request({"content-type": f"multipart/form-data; boundary={quoted}"})
    limits = {
        "max_fields": rng.choice([1, 1000]),
        "max_files": rng.choice([1, 100]),
        "max_field_size": rng.choice([5, 1 << 20]),
    }

    def reader(pieces: list[bytes]) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def read() -> list[tuple[str, str | None, bytes]]:
            found, fields, files = [], 0, 0
            async for part in parts.Multipart(request, Response(pieces), **limits):  # type: ignore[arg-type]
                data = await part.read()
                fields, files = fields + (not part.is_file), files + part.is_file
                if part.filename is not None:
                    check_filename(part.filename)
                elif len(data) > limits["max_field_size"]:
                    raise AssertionError("a field beyond its limit")
                found.append((part.name, part.raw_filename, data))
            if fields > limits["max_fields"] or files > limits["max_files"]:
                raise AssertionError("more parts than the limits allow")
            return found

        return read

    whole = outcome(reader([body]))
    equal(outcome(reader(cut(rng, body))), whole)
    if not is_bent and isinstance(whole, list):
        equal([part[2] for part in whole], [part[2] for part in expected])
        equal([part[0] for part in whole], [part[0] for part in expected])


def check_filename(name: str) -> None:
    """A name within a folder, and not the folder itself or its parent."""
    if name in (".", "..") or any(char in "/\\\0\r\n" for char in name):
        raise AssertionError(f"the file name {name!r} leads elsewhere")


def check_filenames(rng: random.Random) -> None:
    check_filename(parts.safe_filename(noise(rng).decode("utf-8", "replace")))
    found = parts._extended_filename(noise(rng, 20).decode("latin-1") + "; filename*=utf-8''" + word(rng))
    if found is not None:
        check_filename(parts.safe_filename(found))


# ---- headers --------------------------------------------------------------------------------------------------------


def check_cookies(rng: random.Random) -> None:
    pairs = {
        f"n{rng.randrange(100)}": rng.choice(["", "v", "a b", '"q"', "%41"]) for _ in range(rng.randrange(6))
    }
    header = "; ".join(f"{name}={value}" for name, value in pairs.items())
    if rng.random() < 0.6:
        header = (
            bend(rng, header.encode()).decode("utf-8", "replace")
            if rng.random() < 0.5
            else noise(rng, 300).decode("latin-1")
        )
        pairs = {}
    jar = cookies.get_cookies(Request({"cookie": header}))  # type: ignore[arg-type]
    if jar is None:
        raise AssertionError("there is a header, and no cookies")
    if len(jar) > header.count(";") + 1:
        raise AssertionError("more cookies than pairs")
    for name, value in pairs.items():
        equal(jar[name].value, value.strip('"'))
    for name, morsel in jar.items():
        if any(char in name for char in "=;\r\n") or "\n" in morsel.coded_value:
            raise AssertionError(f"the cookie {name!r} holds what separates cookies")


def check_set_cookie(rng: random.Random) -> None:
    name, value = noise(rng, 8).decode("latin-1"), noise(rng)
    options = {rng.choice(["path", "domain", "samesite", "comment"]): noise(rng, 8).decode("latin-1")}
    try:
        line = cookies.format_cookie(name, value, options)
    except (CookieError, TypeError):
        return
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in line):
        raise AssertionError(f"{line!r} is more than one line")
    jar = cookies.get_cookies(Request({"cookie": line.partition(";")[0]}))  # type: ignore[arg-type]
    equal(None if jar is None else list(jar), [name])


def check_types(rng: random.Random) -> None:
    name, parameters = content_type.media_type(noise(rng, 60).decode("latin-1"))
    equal(name, name.strip().lower())
    equal([key.lower() for key in parameters], list(parameters))
    try:
        encoding = content_type.charset(f"text/plain; charset={noise(rng, 6).decode('latin-1')}")
    except UnsupportedMediaType:
        return
    noise(rng).decode(encoding, "replace")


CHECKS = [check_urlencoded, check_multipart, check_filenames, check_cookies, check_set_cookie, check_types]


def run(seed: int) -> None:
    rng = random.Random(seed)
    check = CHECKS[seed % len(CHECKS)]
    began = time.perf_counter()
    try:
        check(rng)
        took = time.perf_counter() - began
        if took > LONGEST:
            raise AssertionError(f"{check.__name__} took {took:.1f} s")
    except Exception:
        traceback.print_exc()
        sys.exit(f"{check.__name__} failed: again with --seed {seed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on (default: 60)")
    parser.add_argument("--seed", type=int, help="run the round of this seed alone")
    parser.add_argument("--start", type=int, help="the first seed (default: a random one)")
    options = parser.parse_args()
    if options.seed is not None:
        run(options.seed)
        return
    start = random.SystemRandom().randrange(1 << 48) if options.start is None else options.start
    seed, deadline = start, time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        run(seed)
        seed += 1
    print(f"{seed - start} rounds from seed {start}: nothing found")


if __name__ == "__main__":
    main()
