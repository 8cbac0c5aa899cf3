# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the metrics and the status page of a host over HTTP. Read-only.

One look at the host answers all requests of a second, so that many readers cost no more than one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from . import certificate, metrics, page, regular_file
from .observe import View, observe

if TYPE_CHECKING:
    import ssl

FRESH = 1.0  # seconds that a view answers further requests
REQUESTS = 16  # served at the same time; more are refused
REQUEST_SECONDS = 10.0  # that a client may take to send its request or to read the answer
MAX_CERTIFICATE = 2**20  # bytes


class Sources(NamedTuple):
    """What is looked at. timeout: seconds for all job servers together."""

    servers: Sequence[str]
    timeout: float
    context: ssl.SSLContext | None = None
    certificates: Sequence[str] = ()


class Watcher:
    """Looks at the sources, at most once in FRESH seconds, regardless of the number of threads."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._view = View(0.0)
        self._certificates: dict[str, float] = {}
        self._seconds = 0.0

    def look(self) -> tuple[View, dict[str, float], float]:
        """Return the view, the certificates' ends and the seconds that it took."""
        with self._lock:
            started = time.monotonic()
            if started - self._looked > FRESH:
                self._view = observe(
                    self._sources.servers, self._sources.timeout, self._sources.context
                )
                self._certificates = expiries(self._sources.certificates)
                self._looked = time.monotonic()
                self._seconds = self._looked - started
            return self._view, self._certificates, self._seconds


def expiries(paths: Sequence[str]) -> dict[str, float]:
    """Return until when each certificate is valid, by path; those that cannot be read are left out.

    Links are followed, as certificates of others are often links.
    """
    found = {}
    for path in paths:
        try:
            content = regular_file.read(os.path.realpath(path), MAX_CERTIFICATE)
            found[path] = certificate.valid_until(content)
        except (OSError, ValueError):
            continue
    return found


def write_textfile(watcher: Watcher, path: str) -> None:
    """Write the metrics once, for node_exporter's textfile collector; raises OSError."""
    fresh = f"{path}.{os.getpid()}.tmp"
    try:
        with open(fresh, "w", encoding="utf-8", newline="\n") as file:
            file.write(metrics.text(*watcher.look()))
            os.fchmod(file.fileno(), 0o644)
        os.replace(fresh, path)
    except OSError:
        if os.path.lexists(fresh):
            os.unlink(fresh)
        raise


class Server(ThreadingHTTPServer):
    """The HTTP server; raises OSError when it cannot listen on host and port."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, watcher: Watcher) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.watcher = watcher
        self._room = threading.BoundedSemaphore(REQUESTS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name, which may hang, in HTTPServer.server_bind."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early, or sends nonsense, is not worth a line."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = REQUEST_SECONDS
    server_version, sys_version = "gearvisor", ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            text = metrics.text(*self.server.watcher.look())
            self._answer("text/plain; version=0.0.4; charset=utf-8", text)
        elif path == "/":
            view, certificates, _since = self.server.watcher.look()
            self._answer(
                "text/html; charset=utf-8", page.page(view, certificates, os.uname().nodename)
            )
        elif path == "/page.css":
            self._answer("text/css; charset=utf-8", page.STYLE)
        elif path == "/page.js":
            self._answer("text/javascript; charset=utf-8", page.SCRIPT)
        elif path == "/icon.svg":
            self._answer("image/svg+xml", page.ICON)
        elif path == "/healthz":
            self._answer("text/plain; charset=utf-8", "ok\n")
        else:
            self._answer("text/plain; charset=utf-8", "not found\n", 404)

    do_HEAD = do_GET

    def _answer(self, kind: str, text: str, code: int = 200) -> None:
        body = text.encode(errors="backslashreplace")
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", page.POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No line for each request."""
