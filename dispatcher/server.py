"""Serves the app with granian in this very process: its front is asynchronous (who is idle, or sends
its headers slowly, holds no thread), its WSGI calls run on threads, so that a request may be parked.

granian usually starts worker processes; its threaded server does the same in one process, which is
what a database with one writer needs: one pid to lock, to signal and to lose. It insists on a
Python without GIL for speed only, so that check is lifted (measured: the same answers and speed).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from granian._granian import ListenerSpec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.mt import MTServer

from dispatcher.engine import CannotStart

# Waiting requests hold a thread each; these are for the others …
SPARE_THREADS = 32
# … and these for bodies that come in slowly, which hold one until they are here. A thread is made when
# it is needed, and takes 60 kB.
SLOW_THREADS = 256
# A peer that was silent for so many seconds, and then does not answer so often, is gone: without that,
# one that vanished in the middle of its request would hold its thread for ever.
GONE_AFTER = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
# Idle connections count too, and a worker keeps two, or three: room for over 6,000 workers. The operating
# system's own limit on open files may come first (ulimit -n).
CONNECTIONS_MAX = 20_000
# Then the process ends even if a request still runs: the database is safe at any moment.
STOP_SECONDS = 4.0


class Server(MTServer):
    """`on_stop` runs when a signal asks for the end, before open requests are waited for."""

    def __init__(self, app: Flask, host: str, port: int, parked_max: int, on_stop: Callable[[], None]) -> None:
        super().__init__(
            "the app is handed to serve()",
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            websockets=False,
            blocking_threads=parked_max + SPARE_THREADS + SLOW_THREADS,
            backpressure=CONNECTIONS_MAX,
            backlog=1024,
            http1_settings=HTTP1Settings(header_read_timeout=10_000),
            log_enabled=False,
        )
        self._app = app
        self._on_stop = on_stop

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        self.serve(target_loader=lambda: self._app, wrap_loader=False)

    def _check_gil(self) -> None:
        pass

    def _init_shared_socket(self) -> None:
        """Make the listening socket here: the connections that it accepts have its options."""
        super()._init_shared_socket()  # type: ignore[no-untyped-call]
        holder: Any = self._shd or ListenerSpec(self.bind_addr, self.bind_port, self.backlog).build()
        with socket.socket(fileno=os.dup(holder.get_fd())) as listening:
            _notice_the_gone(listening)
        self._shd = holder

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """The first signal stops politely, the second at once."""
        if self.interrupt_signal:
            os._exit(130)
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]

    def shutdown(self, exit_code: int = 0) -> None:
        """Answer what is parked, then let granian wait for the rest, within limits."""
        killer = threading.Timer(STOP_SECONDS, os._exit, (0,))
        killer.daemon = True
        killer.start()
        self._on_stop()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


def _notice_the_gone(listening: socket.socket) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in GONE_AFTER.items():
        if hasattr(socket, option):  # elsewhere the system's own times hold
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def quiet() -> None:
    """granian's own log lines would only repeat ours."""
    logging.getLogger("_granian").setLevel(logging.ERROR)
    logging.getLogger("granian").setLevel(logging.ERROR)


def free_port(host: str, port: int) -> int:
    """`port` if nobody listens on it (0: any free one); raises CannotStart naming the way out."""
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(f"cannot listen on {host}:{port} ({error.strerror}); {_way_out(error)}") from None
        taken: int = probe.getsockname()[1]
        return taken


def _way_out(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "set DISPATCHER_HOST to an address of this machine"
    if error.errno == errno.EACCES:
        return "set DISPATCHER_PORT to a port from 1024 on: those below are root's"
    return "set DISPATCHER_PORT to another port, or stop what uses it"
