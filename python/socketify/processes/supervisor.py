"""The process that does not serve but keeps those that do: starts them, replaces them, ends them.

It runs no user code, has no threads and no event loop, so that forking it is safe, and whatever an application does to its
own process leaves it alone. A worker is a fork of it that goes on where :meth:`Supervisor.run` was called.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..terminal import has_terminal, is_foreground, quiet
from . import link
from .console import FAILURE, complain
from .heartbeat import Heartbeat
from .link import Link, flush
from .recycling import Recycling, memory_of

if TYPE_CHECKING:
    from .ports import Claims
    from .reloader import Watcher

__all__ = ["HANDLED", "Supervisor", "respawn_delay"]

#: Signals that the supervisor acts on.
HANDLED = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGCHLD,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
    }
)
#: Those of them that the program's own handlers go before.
_OPTIONAL = frozenset({signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1})
#: Seconds that a worker may take to end, beyond those that its application gives to requests and to sockets.
_PATIENCE = 30.0
#: Seconds that it may take after a second signal, and before a reload.
_SHORT_PATIENCE = 5.0
#: Seconds of service after which an end counts as the first again.
_STABLE = 10.0
#: Seconds between two workers that are replaced because they are old.
_BETWEEN = 1.0


def respawn_delay(failures: int) -> float:
    """Seconds until a worker is replaced.

    Args:
        failures: How many have ended before it in the same place, one soon after the other.

    Returns:
        0 for the first; then from a quarter of a second, twice as many each time, up to 30.
    """
    return 0.0 if failures == 0 else min(0.25 * 2.0 ** min(failures - 1, 10), 30.0)


class _Worker:
    """A process that serves, or is about to."""

    def __init__(self, pid: int, status: int, place: _Place, now: float) -> None:
        self.pid = pid
        self.status = status
        self.place = place
        self.ready_at: float | None = None
        # It speaks TLS, and its application has that interface.
        self.secure = False
        self.kind = ""
        # It has said itself what is wrong.
        self.told = False
        # It has been asked to end, and until when that is waited for.
        self.retired = False
        self.kill_at: float | None = None
        self.grace = 0.0
        self.heard = b""
        # When it is old by its time, and how many looks have found too much memory.
        self.old_at: float | None = None
        self.large = 0
        # What its loop tells of itself, where somebody listens.
        self.heart: Heartbeat | None = None


class _Place:
    """One of the workers that there are to be, whichever process it is at the moment."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: _Worker | None = None
        # The one that is to take its place, while that starts.
        self.successor: _Worker | None = None
        self.failures = 0
        # When a worker is to be started, if one is.
        self.due: float | None = None
        # Its worker is to be replaced since it is old.
        self.is_old = False


class Supervisor:
    """Keeps workers running.

    Args:
        count: How many.
        announce: Called once, when the first worker serves, with whether it speaks TLS and what interface it has.
        claimed: The sockets that they serve, which outlive each of them.
        watcher: With one, there is a single worker, which is replaced when files change, and not when it ends.
        patience: Seconds that a worker has to end, beyond those of its application.
        recycling: What makes a worker old, so that it is replaced.
        timeout: Seconds that the loop of a worker may be busy with one turn before the worker is replaced; 0 for any.
    """

    def __init__(
        self,
        count: int,
        announce: Callable[[bool, str], object],
        claimed: Claims,
        watcher: Watcher | None = None,
        patience: float = _PATIENCE,
        recycling: Recycling | None = None,
        timeout: float = 0.0,
    ) -> None:
        self._places = [_Place(number) for number in range(1 if watcher else count)]
        self._claimed = claimed
        self._announce = announce
        self._watcher = watcher
        self._patience = _SHORT_PATIENCE if watcher else patience
        self._recycling = Recycling() if recycling is None else recycling
        # Places whose workers are old, when the next of them is replaced at the earliest, and when to look at memory.
        self._old: list[_Place] = []
        self._next_recycled_at = 0.0
        self._look_at: float | None = None
        # When to look for loops that hang.
        self._timeout = timeout
        self._listen_at: float | None = None
        self._workers: dict[int, _Worker] = {}
        # Places whose workers are to be replaced by new ones that serve first, one place after the other.
        self._renewing: list[_Place] = []
        self._announced = False
        # Every place has had a worker that served: from now on a failure to start is not one of the application alone.
        self._complete = False
        # A SIGHUP came before that.
        self._renew_later = False
        # How often it was asked to stop.
        self._stops = 0
        self._stopping = False
        self._code = 0
        self._terminal = is_foreground()

    def run(self) -> int | Link:
        """Starts the workers, and keeps them running until a signal.

        Returns:
            In the supervisor the status to exit with, once every worker has ended. In each worker, at once, its link to the
            supervisor.
        """
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._lifeline, self._held = os.pipe()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        if self._watcher is not None:
            self._selector.register(self._watcher.descriptor, selectors.EVENT_READ)
        for number in HANDLED:
            # Whoever started us with nohup does not want us to hear of the terminal's end, and whoever did so in the
            # background not of its Ctrl+C.
            present = signal.getsignal(number)
            ignored = number in (signal.SIGHUP, signal.SIGINT) and present is signal.SIG_IGN
            # A program that runs workers may have a use of its own for these.
            taken = number in _OPTIONAL and present not in (signal.SIG_DFL, quiet)
            if not (ignored or taken):
                signal.signal(number, quiet)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._places[0].due = 0.0
        while not (self._stopping and not self._workers):
            if (link := self._start_due()) is not None:
                return link
            self._wait()
        self._let_go()
        os.close(self._lifeline)
        if self._watcher is not None:
            self._watcher.end()
        return self._code

    # ---- processes ----------------------------------------------------------------------------------------------------

    def _start_due(self) -> Link | None:
        """Starts the workers whose time has come; in each of them, gives its link."""
        for place in self._places:
            if place.due is None or self._stopping or place.due > time.monotonic():
                continue
            place.due = None
            try:
                link = self._spawn(place)
            except OSError as error:
                complain(f"cannot start a worker: {error.strerror}")
                self._failed(place, None, FAILURE)
                continue
            if link is not None:
                return link
        return None

    def _spawn(self, place: _Place) -> Link | None:
        self._claimed.open(place.number)
        heart = Heartbeat() if self._timeout else None
        status, report = os.pipe()
        flush()
        parent = os.getpid()
        # A signal for the worker must not run the supervisor's handlers in it, which would write to the supervisor's socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            os.close(status)
            os.close(report)
            raise
        if pid == 0:
            os.close(status)
            self._let_go()
            self._claimed.keep(place.number)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Those that a terminal sends to all of its processes stay quiet: the supervisor hears them too.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            link.several = len(self._places) > 1
            return Link(parent, report, self._lifeline, heart)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(report)
        os.set_blocking(status, False)
        worker = _Worker(pid, status, place, time.monotonic())
        worker.heart = heart
        self._workers[pid] = worker
        self._selector.register(status, selectors.EVENT_READ, worker)
        if place.worker is None:
            place.worker = worker
        else:
            place.successor = worker
        return None

    def _let_go(self) -> None:
        """Closes what only the supervisor has use for: at its end, and in each new worker."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        os.close(self._held)
        for worker in self._workers.values():
            os.close(worker.status)
        if self._watcher is not None:
            os.close(self._watcher.descriptor)

    def _retire(self, worker: _Worker, patience: float | None = None) -> None:
        """Asks a worker to end, and says how long it may take."""
        grace = worker.grace + self._patience if patience is None else patience
        kill_at = time.monotonic() + grace
        worker.kill_at = kill_at if worker.kill_at is None else min(worker.kill_at, kill_at)
        worker.retired = True
        os.kill(worker.pid, signal.SIGTERM)

    # ---- events -------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        times = [worker.kill_at for worker in self._workers.values() if worker.kill_at is not None]
        if not self._stopping:
            times += [place.due for place in self._places if place.due is not None]
            times += [worker.old_at for worker in self._workers.values() if worker.old_at is not None]
            times += [each for each in (self._look_at, self._listen_at) if each is not None]
            if self._old and not self._is_renewing():
                times.append(self._next_recycled_at)
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._woken:
                self._signalled()
            elif key.data is not None:
                self._hear(key.data)
            else:
                self._changed()
        self._reap()
        self._recycle()
        self._end_hanging()
        for worker in list(self._workers.values()):
            if worker.kill_at is not None and worker.kill_at <= time.monotonic():
                complain(f"worker {worker.pid} does not end: killing it")
                worker.kill_at = None
                os.kill(worker.pid, signal.SIGKILL)
                if self._stopping:
                    self._code = self._code or FAILURE

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._woken.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop(0)
                elif number == signal.SIGHUP:
                    # A terminal that closes sends the same signal as a request for new workers.
                    if self._terminal and not has_terminal():
                        self._stop(0)
                    else:
                        self._renew()
                elif number == signal.SIGTTIN:
                    self._add_place()
                elif number == signal.SIGTTOU:
                    self._remove_place()

    def _stop(self, code: int) -> None:
        self._stops += 1
        if not self._stopping:
            self._stopping = True
            self._code = code
            # Workers accept the connections that wait already. New ones are refused, and do not wait in vain.
            self._claimed.stop()
        for worker in self._workers.values():
            if self._stops > 2:
                os.kill(worker.pid, signal.SIGKILL)
            elif self._stops == 2 or not worker.retired:
                # An application that is asked twice does not wait for requests in progress.
                self._retire(worker, None if self._stops == 1 else _SHORT_PATIENCE)

    def _hear(self, worker: _Worker) -> None:
        """Reads what a worker says of itself: that it serves, or that it has told the user why it does not."""
        try:
            while data := os.read(worker.status, 4096):
                worker.heard += data
            self._selector.unregister(worker.status)
        except BlockingIOError:
            pass
        except KeyError:
            return
        *lines, worker.heard = worker.heard.split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            if word == b"ready" and worker.ready_at is None:
                # Requests in progress have that time, and what their ends set off has it once more.
                worker.grace = 2 * float(value)
                worker.ready_at = time.monotonic()
                self._serves(worker)
            elif word == b"spent":
                self._is_old(worker, "has served its requests")
            elif word == b"secure":
                worker.secure = True
            elif word == b"kind":
                worker.kind = value.decode()
            elif word == b"told":
                worker.told = True

    def _serves(self, worker: _Worker) -> None:
        place = worker.place
        if (span := self._recycling.span()) is not None:
            worker.old_at = time.monotonic() + span
        if worker.heart is not None:
            worker.heart.begin(time.monotonic())
            self._listen_at = self._listen_at or time.monotonic()
        if self._recycling.memory is not None and self._look_at is None:
            self._look_at = time.monotonic() + self._recycling.interval
        if worker is place.successor:
            old, place.worker, place.successor = place.worker, worker, None
            place.is_old = False
            place.failures = 0
            if old is not None and not old.retired:
                self._retire(old)
        if not self._announced and not self._stopping:
            self._announced = True
            self._announce(worker.secure, worker.kind)
            # One has shown that the application can be loaded: now the others, which need not fail one by one.
            for other in self._places[1:]:
                other.due = 0.0
        if all(each.worker is not None and each.worker.ready_at is not None for each in self._places):
            self._complete = True
        if self._complete and self._renew_later:
            self._renew_later = False
            self._renew()
        else:
            self._renew_next()

    def _reap(self) -> None:
        # Any child: as the first process of a container, this one gets all orphans.
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (worker := self._workers.get(pid)) is not None:
                self._hear(worker)
                with contextlib.suppress(KeyError):
                    self._selector.unregister(worker.status)
                os.close(worker.status)
                if worker.heart is not None:
                    worker.heart.close()
                del self._workers[pid]
                self._ended(worker, os.waitstatus_to_exitcode(status))
            elif self._watcher is not None and pid == self._watcher.pid:
                self._watcher.pid = 0
                self._selector.unregister(self._watcher.descriptor)
                if not self._stopping:
                    complain("the process that watches the files has ended: changes are no longer noticed")

    # ---- what comes next ------------------------------------------------------------------------------------------------

    def _ended(self, worker: _Worker, code: int) -> None:
        place = worker.place
        was_successor = worker is place.successor
        if was_successor:
            place.successor = None
        elif worker is place.worker:
            place.worker = None
        if self._stopping:
            # What an application could not end is the command's failure too.
            self._code = self._code or max(0, code)
            return
        if self._watcher is not None:
            if worker.retired:
                place.due = 0.0
            else:
                self._say(worker, code, "waiting for a change")
        elif worker.retired:
            self._renew_next()
        elif worker.ready_at is None and not self._complete:
            self._say(worker, code, "giving up")
            self._stop(code if code >= 0 else FAILURE)
        elif was_successor and place.worker is not None:
            self._say(worker, code, "the other workers stay as they are")
            self._renewing.clear()
            # One that is old stays so.
            place.failures += 1
            self._next_recycled_at = time.monotonic() + max(_BETWEEN, respawn_delay(place.failures))
            if place.is_old:
                self._old.append(place)
        elif place.worker is None and place.successor is None:
            self._failed(place, worker, code)

    def _failed(self, place: _Place, worker: _Worker | None, code: int) -> None:
        now = time.monotonic()
        if worker is None and not self._complete:
            self._stop(code)
            return
        if worker is not None and worker.ready_at is not None and now - worker.ready_at >= _STABLE:
            place.failures = 0
        delay = respawn_delay(place.failures)
        place.failures += 1
        place.due = now + delay
        if delay:
            # Connections to this place would wait for too long; the next ones go to other places.
            self._claimed.give_up(place.number)
        if worker is not None:
            self._say(worker, code, f"starting another{f' in {delay:g} seconds' if delay else ''}")

    def _say(self, worker: _Worker, code: int, next_step: str) -> None:
        if worker.told and next_step == "giving up":
            return
        how = f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        when = "" if worker.ready_at is not None else " before it served"
        complain(f"worker {worker.pid} {how}{when}: {next_step}")

    def _renew(self) -> None:
        """Replaces every worker by a new one, which serves before the old one ends."""
        if self._stopping:
            return
        if self._watcher is not None:
            self._restart()
        elif self._complete:
            self._renewing = list(self._places)
            self._renew_next()
        elif not self._renew_later:
            # The first ones may have read the code before it was changed, and nobody else could serve meanwhile.
            self._renew_later = True
            complain("SIGHUP: the workers are replaced once all of them serve")

    def _renew_next(self) -> None:
        if self._stopping or any(place.successor is not None for place in self._places):
            return
        while self._renewing:
            place = self._renewing.pop(0)
            waited = place.worker is None
            place.due = 0.0
            place.failures = 0
            if not waited:
                return

    # ---- workers that are old, and how many there are ---------------------------------------------------------------------

    def _is_old(self, worker: _Worker, why: str) -> None:
        place = worker.place
        worker.old_at = None
        if worker.retired or self._stopping or worker is not place.worker or place.is_old:
            return
        place.is_old = True
        self._old.append(place)
        complain(f"worker {worker.pid} {why}: replacing it")

    def _recycle(self) -> None:
        """Finds workers that are old, and replaces one of them if it is time."""
        now = time.monotonic()
        for worker in list(self._workers.values()):
            if worker.old_at is not None and worker.old_at <= now:
                self._is_old(worker, f"has served for {now - (worker.ready_at or now):.0f} seconds")
        if self._look_at is not None and self._look_at <= now:
            self._look_at = now + self._recycling.interval
            self._look_at_memory()
        if self._old and not self._stopping and now >= self._next_recycled_at and not self._is_renewing():
            place = self._old.pop(0)
            if place.worker is not None and place.is_old and place in self._places:
                self._next_recycled_at = now + _BETWEEN
                place.due = now

    def _end_hanging(self) -> None:
        """Ends workers whose loop hangs: with their stacks, and then for sure."""
        now = time.monotonic()
        if self._listen_at is None or self._listen_at > now or self._stopping:
            return
        period = min(self._timeout / 4, 5.0)
        # This process, or the machine, may have stood still itself.
        missed = now - self._listen_at > 2 * period
        self._listen_at = now + period
        for worker in self._workers.values():
            if worker.heart is None or worker.ready_at is None or worker.retired:
                continue
            if missed:
                worker.heart.begin(now)
            if worker.heart.late(now) >= self._timeout and worker.kill_at is None:
                complain(
                    f"worker {worker.pid}: its loop has not turned for {self._timeout:g} seconds: ending it"
                )
                worker.kill_at = now + 1.0
                os.kill(worker.pid, signal.SIGABRT)

    def _look_at_memory(self) -> None:
        most = self._recycling.memory
        for worker in list(self._workers.values()):
            if most is None or worker.ready_at is None or worker.retired:
                continue
            used = memory_of(worker.pid)
            worker.large = worker.large + 1 if used > most else 0
            if worker.large >= self._recycling.samples:
                self._is_old(worker, f"has {used >> 20} MiB of memory")

    def _is_renewing(self) -> bool:
        """Whether a worker is about to take the place of another, or one that has been replaced has not ended yet."""
        return (
            bool(self._renewing)
            or any(worker.retired for worker in self._workers.values())
            or any(
                place.successor is not None or (place.is_old and place.due is not None)
                for place in self._places
            )
        )

    def _add_place(self) -> None:
        """One worker more (S-CLI-22)."""
        if self._stopping or self._watcher is not None or not self._complete:
            return
        place = _Place(1 + max(each.number for each in self._places))
        place.due = 0.0
        self._places.append(place)
        complain(f"SIGTTIN: there are to be {len(self._places)} workers")

    def _remove_place(self) -> None:
        """One worker less, but for the last."""
        if self._stopping or self._watcher is not None or not self._complete or len(self._places) == 1:
            return
        place = self._places.pop()
        place.due = None
        complain(
            f"SIGTTOU: there {'are' if len(self._places) > 1 else 'is'} to be {len(self._places)} workers"
        )
        for worker in (place.worker, place.successor):
            if worker is not None and not worker.retired:
                self._retire(worker)
        # The worker accepts what waits there, and nothing more comes.
        self._claimed.give_up(place.number)

    def _changed(self) -> None:
        """Files have changed: what the watcher says of them is passed on."""
        assert self._watcher is not None
        names = self._watcher.changed()
        if names and not self._stopping:
            complain(f"{names} changed: restarting")
            self._restart()

    def _restart(self) -> None:
        place = self._places[0]
        if place.worker is None:
            place.due = 0.0
        elif not place.worker.retired:
            self._retire(place.worker)
