"""A small server that speaks enough of the Hugging Face hub protocol for downloads, and serves plain files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@dataclass
class Hub:
    """What the server holds and what it was asked. `cut_after` ends the next body early, once."""

    files: dict[str, bytes] = field(default_factory=dict)
    licence: str = "apache-2.0"
    wrong_digest: bool = False
    cut_after: int | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""

    def repository(self, revision: str) -> dict[str, object]:
        siblings = [
            {"rfilename": name, "lfs": {"sha256": self.digest(content), "size": len(content), "pointerSize": 1}}
            for name, content in self.files.items()
        ]
        sha = COMMITS.get(revision, revision)
        return {"id": "owner/llama", "sha": sha, "siblings": siblings, "cardData": {"license": self.licence}}

    def digest(self, content: bytes) -> str:
        return "0" * 64 if self.wrong_digest else hashlib.sha256(content).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve a hub on a free loopback port until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Stay silent: the test reads `Hub.requests`."""

    def _answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) == "owner/llama":
            revision = parts[5] if len(parts) > 5 else "main"
            return self._send(200, json.dumps(self.hub.repository(revision)).encode(), {}, with_body)
        if parts[:3] == ["owner", "llama", "resolve"] and parts[4] in self.hub.files:
            content = self.hub.files[parts[4]]
            headers = {"X-Repo-Commit": COMMITS.get(parts[3], parts[3]), "X-Linked-Size": str(len(content))}
            return self._send_file(content, {**headers, "ETag": f'"{self.hub.digest(content)}"'}, with_body)
        if parts[0] == "plain" and parts[1] in self.hub.files:
            return self._send_file(self.hub.files[parts[1]], {}, with_body)
        self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _send_file(self, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        asked, headers = self.headers.get("Range"), {**headers, "Accept-Ranges": "bytes"}
        if asked is None or not with_body:
            return self._send(200, content, headers, with_body)
        start = int(asked.removeprefix("bytes=").split("-")[0])
        if start >= len(content):
            return self._send(416, b"", headers, with_body)
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], headers, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            cut, self.hub.cut_after = (self.hub.cut_after, None) if status in (200, 206) else (None, self.hub.cut_after)
            self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = self.close_connection or cut is not None
