"""Runs as live pages on a local address: reads the files of one root, and can change nothing."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_bytes, hash_of
from ostinato.experiment import report_pages
from ostinato.experiment.finding import run_folders
from ostinato.experiment.metrics import encode
from ostinato.experiment.reading import state_of

log = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Query = dict[str, list[str]]


class ReportServer(ThreadingHTTPServer):
    """Bound to an address of this machine alone it needs no token; elsewhere a random one, in each URL."""

    daemon_threads = True

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.root = root
        self.local = is_local(host)
        self.token = "" if self.local else secrets.token_urlsafe(24)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{host}:{port} cannot be served: {reason}. Choose another --port or --host.") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}/" + (f"?token={self.token}" if self.token else "")

    def link(self, page: str, **query: Any) -> str:
        """A relative address with the token in it."""
        fields = {**query, **({"token": self.token} if self.token else {})}
        return (page or "./") + ("?" + urlencode(fields, doseq=True) if fields else "")


class Handler(BaseHTTPRequestHandler):
    """GET alone. Runs are found by comparing names, so that no path is ever made of what is asked."""

    server: ReportServer
    server_version, sys_version = "ostinato", ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer, whatever happens."""
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # the reader has left
        except Exception:
            log.exception("%s", urlsplit(self.path).path)
            self._send(500, "text/plain", b"this page failed; the server's log says why\n")

    do_HEAD = do_GET

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        refusal = self._refusal(query)
        page: Callable[[Query], None] | None = {
            "/": self._index,
            "/runs.json": self._list,
            "/report": self._report,
            "/report.json": self._news,
        }.get(parts.path)
        if refusal:
            self._send(403, "text/plain", f"{refusal}\n".encode())
        elif page is None:
            self._send(404, "text/plain", b"no such page\n")
        else:
            page(query)

    def _refusal(self, query: Query) -> str | None:
        """Why this request is not answered: a page of another name (rebinding), or no token."""
        host = self.headers.get("Host", "")
        if self.server.local:
            name = host.removesuffix(f":{self.server.server_port}").strip("[]")
            return None if is_local(name) else "this server has another name"
        given = query.get("token", [""])[0].encode()
        return None if hmac.compare_digest(given, self.server.token.encode()) else "the token is missing or wrong"

    def _index(self, query: Query) -> None:
        group = query.get("group", ["none"])[0]
        page = report_pages.index(self.server.root, group, self.server.link, self.server.token)
        self._send(200, "text/html", page.encode("utf-8", errors="backslashreplace"))

    def _list(self, query: Query) -> None:
        group = query.get("group", ["none"])[0]
        self._send_json({"parts": {"list": report_pages.run_list(self.server.root, group, self.server.link)}})

    def _report(self, query: Query) -> None:
        if folders := self._folders(query):
            page = report_pages.live(folders, self.server.link)
            self._send(200, "text/html", page.encode("utf-8", errors="backslashreplace"))

    def _news(self, query: Query) -> None:
        if not (folders := self._folders(query)):
            return
        tag = f'"{hash_of([signs_of_change(folder) for folder in folders])}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(304, "application/json", b"", tag)
        else:
            self._send_json(report_pages.news(folders), tag)

    def _folders(self, query: Query) -> list[Path]:
        """The runs that are asked for; answers 404 itself if one is not there."""
        known = {folder.name: folder for folder in run_folders(self.server.root)}
        wanted = list(dict.fromkeys(query.get("run", [])))
        if wanted and all(name in known for name in wanted):
            return [known[name] for name in wanted]
        self._send(404, "text/plain", b"no run of this name is there\n" if wanted else b"no run was selected\n")
        return []

    def _send_json(self, value: Any, tag: str | None = None) -> None:
        data = encode(value)
        tag = tag or f'"{hash_bytes(data)}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(304, "application/json", b"", tag)
        else:
            self._send(200, "application/json", data, tag)

    def _send(self, code: int, kind: str, data: bytes, tag: str | None = None) -> None:
        self.send_response(code)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: requests are not worth a line, and hold the token."""


def is_local(host: str) -> bool:
    """Whether a name or address is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def signs_of_change(folder: Path) -> list[Any]:
    """What differs when a run's page would: its state, and the sizes and times of what it writes."""
    signs: list[Any] = [folder.name, state_of(folder, clock_folder=folder.parent)]
    for name in ("logs/metrics.jsonl", "outputs/samples", "metadata.json", "checkpoints"):
        try:
            found = (folder / name).stat()
            signs.append([found.st_size, found.st_mtime_ns])
        except OSError:
            signs.append(None)
    return signs
