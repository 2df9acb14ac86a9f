"""Random clients against random handlers, with a checker that knows the expected results.

    python tests/chaos/run.py --seconds 300 --seed 7        (also: make chaos SECONDS=300 SEED=7)

A run consists of rounds of some tens of seconds. A round starts a server (server.py) in a process of its own, in which
threads lose the GIL as often as possible and the allocator checks each block; talks to it from many threads
(http1.py, http2.py, websocket.py); and then looks whether all is as it was before: counts, descriptors, memory, standard
error, exit status (checker.py). Of four rounds in a row two speak TLS, and two end the server under load.

The seed of a round decides what the server is like, and with the name of a worker and the number of a conversation all that
a client does. Threads are scheduled as they like, so the same seed makes the same decisions and not the same run. On a
failure the seed is printed, with what was expected, what came, the bytes of the conversation and what the server has said.
"""

from __future__ import annotations

import argparse
import itertools
import random
import ssl
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import trustme

import http1
import http2
import mutations
import websocket
import wire
from asks import FILES, content
from checker import CALM, Server
from session import Session
from wire import Wrong

#: What workers speak, and how many of each there are.
PROTOCOLS: dict[str, Callable[[Session], None]] = {
    "http1": http1.run,
    "http2": http2.run,
    "websocket": websocket.run,
}
WORKERS = {"http1": 6, "http2": 3, "websocket": 6}
#: Seconds of a round, at most.
ROUND = 30.0
#: Seconds that the last conversations of a round may take.
LAST = 120.0


class Failed(Exception):
    """A failure, with all details."""


class Certificates:
    """A key and a certificate for the server, and clients that believe in it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
        self.files = {"key": str(folder / "server.key"), "certificate": str(folder / "server.pem")}
        issued.private_key_pem.write_to_path(self.files["key"])
        issued.cert_chain_pems[0].write_to_path(self.files["certificate"])
        self.contexts = {}
        for protocol in ("http/1.1", "h2"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            authority.configure_trust(context)
            context.set_alpn_protocols([protocol])
            self.contexts[protocol] = context


class Round:
    """One server and its clients."""

    def __init__(
        self, seed: int, options: argparse.Namespace, folder: Path, certificates: Certificates
    ) -> None:
        self.seed = seed
        self.options = options
        rng = random.Random(f"{seed}/round")
        # In turn, so that a few seeds in a row have all of them.
        tls = seed % 2 == 1 if options.tls == "seed" else options.tls == "always"
        self.contexts = certificates.contexts if tls else {}
        self.under_load = seed // 2 % 2 == 1
        self.settings = {
            "seed": seed,
            "tls": certificates.files if tls else None,
            "sync_handlers": rng.choice(["io", "io", "loop"]),
            "io_threads": rng.choice([1, 2, 3]),
            "use_uvloop": rng.random() < 0.2,
            "folder": str(folder),
            "mutation": options.mutation,
        }
        self.stopping = threading.Event()
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.failure: str | None = None
        self.hangs = False
        self._lock = threading.Lock()

    def __str__(self) -> str:
        shown = {key: value for key, value in self.settings.items() if key not in ("seed", "tls", "folder")}
        return f"seed {self.seed}: {'TLS' if self.contexts else 'plain'}, {shown}"

    def run(self, seconds: float) -> str:
        """Returns a line with the counts of the round."""
        try:
            self.server = server = Server(self.settings, self.options.calm)
        except Wrong as wrong:
            self._fail(None, wrong.expected, wrong.got)
            raise Failed(self.failure) from None
        workers = [
            threading.Thread(
                target=self._work,
                args=[protocol, f"{protocol}-{number}"],
                name=f"{protocol}-{number}",
                daemon=True,
            )
            for protocol, count in WORKERS.items()
            for number in range(count)
            if self.options.only is None or self.options.only.startswith(f"{protocol}-{number}/")
        ]
        try:
            for worker in workers:
                worker.start()
            self._watch(seconds)
            if self.under_load and not self.failure:
                server.ask("stopping")
                self.stopping.set()
                took = server.stop()
                self._join(workers)
                counts = ""
            else:
                self._join(workers)
                counts = str(server.check_calm()) if not self.failure else ""
                took = server.stop() if not self.failure else 0
        except Wrong as wrong:
            self._fail(None, wrong.expected, wrong.got)
        finally:
            self.over.set()
            self.stopping.set()
            if self.hangs:
                server.where()
            server.kill()
        if self.failure:
            raise Failed(f"{self.failure}\nthe server said:\n{server.errors() or '    nothing'}")
        return f"{dict(self.done)}, ended {'under load ' if self.under_load else ''}in {took:.1f} s {counts}"

    def _watch(self, seconds: float) -> None:
        begun = time.monotonic()
        while time.monotonic() < begun + seconds and not self.failure:
            if not self.server.warm and time.monotonic() > begun + seconds / 3:
                self.server.warm = self.server.memory()
            self.server.ask("state")
            self.over.wait(0.5)

    def _join(self, workers: list[threading.Thread]) -> None:
        self.over.set()
        for worker in workers:
            # A worker ends with its conversation, each of which has an end: nothing in it waits for longer than a hang.
            worker.join(LAST)
            if worker.is_alive():
                raise Wrong(f"an end of the conversation of {worker.name}", f"none within {LAST} s")

    def _work(self, protocol: str, worker: str) -> None:
        numbers = itertools.count()
        if self.options.only is not None:
            numbers = itertools.repeat(int(self.options.only.rpartition("/")[2]))  # type: ignore[assignment]
        for number in numbers:
            if self.over.is_set():
                return
            session = Session(self.seed, worker, number, self.server.port, self.contexts, self.stopping)
            if not self._converse(session, PROTOCOLS[protocol]):
                return
            self.done[protocol] += 1

    def _converse(self, session: Session, run: Callable[[Session], None]) -> bool:
        """Runs one conversation; returns whether there may be another."""
        try:
            run(session)
            return True
        except (Wrong, wire.Ended, wire.Gone) as error:
            if self.stopping.is_set() and not isinstance(error, Wrong):
                return False
            if self.stopping.is_set() and isinstance(error.__cause__, wire.Ended):
                return False
            self.hangs |= isinstance(error, wire.Hang)
            wrong = error if isinstance(error, Wrong) else Wrong("an open connection", repr(error))
            self._fail(session, wrong.expected, wrong.got)
        except BaseException:
            # A client that is wrong itself.
            self._fail(session, "no exception", traceback.format_exc())
        return False

    def _fail(self, session: Session | None, expected: str, got: str) -> None:
        """Notes the first failure: of a conversation, or of the round as a whole."""
        with self._lock:
            if self.failure is not None:
                return
            where = "the round" if session is None else str(session)
            again = f"again: make chaos SEED={self.seed} SECONDS={self.options.seconds:.0f}"
            if session is not None:
                again += f", or this conversation alone: ARGS='--only {session}'"
            talk = "" if session is None else _talk(session)
            self.failure = (
                f"FAILED in {where} of {self}\nexpected: {expected}\ngot:      {got}\n{talk}{again}"
            )
        self.over.set()


def _talk(session: Session) -> str:
    return "".join(
        f"connection {number} ({each.sent} bytes sent, {each.received} received):\n{each.transcript}\n"
        for number, each in enumerate(session.wires)
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long, all rounds together")
    parser.add_argument(
        "--seed", type=int, help="of the first round; the next ones count on. Without it a random one."
    )
    parser.add_argument("--round", type=float, default=ROUND, help=f"seconds of a round (default: {ROUND})")
    parser.add_argument(
        "--tls", choices=["seed", "always", "never"], default="seed", help="odd seeds have it by default"
    )
    parser.add_argument(
        "--only", metavar="WORKER/NUMBER", help="this conversation again and again, without all others"
    )
    parser.add_argument(
        "--hang", type=float, default=wire.HANG, help="seconds without a byte that are a hang"
    )
    parser.add_argument(
        "--calm", type=float, default=CALM, help="seconds until all is as it was before the load"
    )
    parser.add_argument(
        "--mutation", choices=mutations.NAMES, help="a fault for the server, which has to be found"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    wire.HANG = options.hang
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates = Certificates(folder)
        files = folder / "files"
        files.mkdir()
        for number, size in enumerate(FILES):
            (files / f"file{number}").write_bytes(content(f"file{number}", size))
        count = max(1, round(options.seconds / options.round))
        for number in range(seed, seed + count):
            each = Round(number, options, files, certificates)
            print(each, flush=True)
            try:
                print(f"    {each.run(options.seconds / count)}", flush=True)
            except Failed as failed:
                print(failed, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
