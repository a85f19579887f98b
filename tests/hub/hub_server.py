"""A hub of our own on the loopback, as far as huggingface_hub asks one, and with its faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """A repository of one commit, and what is to go wrong with it."""

    files: dict[str, bytes]
    lfs: set[str] = field(default_factory=set)  #: files that are stored with Git LFS
    token: str | None = None  #: who has it may see the repository
    gated: bool = False  #: may be seen by all, and downloaded by nobody
    sent: dict[str, bytes] = field(default_factory=dict)  #: in place of the file's own content
    sizes_of_sent: bool = False  #: the headers speak of what is sent, as a careless mirror's do
    drops: dict[str, int] = field(default_factory=dict)  #: bytes until the connection breaks, once
    stalls: set[str] = field(default_factory=set)  #: only the half of these comes
    xet: bool = False  #: large files are offered by Xet too, whose store has none of them

    @property
    def commit(self) -> str:
        names = "".join(f"{name} {_blob_id(data)}\n" for name, data in self.files.items())
        return hashlib.sha1(names.encode()).hexdigest()

    def has(self, revision: str) -> bool:
        return revision in ("main", "v1", self.commit)

    def entry(self, name: str) -> dict[str, Any]:
        """What is said of a file in a listing."""
        data = self.files[name]
        said: dict[str, Any] = {"size": len(data), "blobId": _blob_id(data), "oid": _blob_id(data)}
        if name in self.lfs:
            sha256 = hashlib.sha256(data).hexdigest()
            said["lfs"] = {
                "oid": sha256,
                "sha256": sha256,
                "size": len(data),
                "pointerSize": len(pointer(data)),
            }
        return said


def pointer(data: bytes) -> bytes:
    """What Git has of a file that is stored with Git LFS."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}"
        f"\nsize {len(data)}\n"
    ).encode()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """``with Hub() as hub``: serves ``hub.repositories`` at ``hub.url``."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []  #: such as ``GET /api/models/a/b``
        self.ranges: list[tuple[str, int]] = []  #: files asked for, and from which byte on
        self.stalled = threading.Event()  #: half of a file has been sent, and no more comes
        self.over = threading.Event()
        self.status: int | None = None  #: what everything is answered with
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_answering()

    def stop_answering(self) -> None:
        """From now on there is nobody at the port."""
        self.over.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def downloads(self) -> list[str]:
        """What was sent: the files' names or, from the store of large ones, their hashes."""
        asked = [r.removeprefix("GET ") for r in self.requests if r.startswith("GET ")]
        return [r.rpartition("/")[2] for r in asked if "/resolve/" in r or r.startswith("/cdn/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.status is not None:
            return self._send(hub.status, b"<html>not a hub</html>")
        if found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            # The store of large files is another host, which must not be told the token.
            if "Authorization" in self.headers and self.headers["Host"].startswith("localhost"):
                return self._send(400, b"token sent to the store")
            return self._send_file(hub.repositories[found[1]], found[2], {})
        if path == "/xet-token":
            return self._send(200, b"{}", self._xet_store(hub))
        if path.startswith("/xet/"):
            return self._send(404, b"not in this store")
        if self._token() == "hf_expired":
            words = "Invalid credentials in Authorization header"
            return self._send(401, b"{}", {"X-Error-Message": words})
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or resolve
        repository = hub.repositories.get(found[1]) if found else None
        if repository is None or repository.token not in (None, self._token()):
            # The hub does not tell those who may not see a repository that it is there.
            return self._fail(401, "RepoNotFound", "Repository not found")
        assert found is not None
        revision = (api[3] if api else resolve[2] if resolve else None) or "main"
        if not repository.has(revision):
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            return self._list(found[1], repository, api[2])
        return self._resolve(found[1], repository, found[3])

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _list(self, name: str, repository: Repository, what: str | None) -> None:
        entries = {file: repository.entry(file) for file in repository.files}
        body: Any = [{"type": "file", "path": f, **e} for f, e in entries.items()]
        if what != "tree":
            siblings = [{"rfilename": f, **e} for f, e in entries.items()]
            body = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings}
            body |= {"private": False, "tags": [], "downloads": 0, "likes": 0}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, repository: Repository, file: str) -> None:
        if file not in repository.files:
            return self._fail(404, "EntryNotFound", "Entry not found")
        if repository.gated:
            return self._fail(403, "GatedRepo", "Access to it is restricted")
        entry = repository.entry(file)
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{entry["oid"]}"'}
        if file not in repository.lfs or repository.sizes_of_sent:
            return self._send_file(repository, file, headers)
        headers["X-Linked-Size"] = str(entry["size"])
        headers["X-Linked-Etag"] = f'"{entry["lfs"]["sha256"]}"'
        if repository.xet:
            headers["X-Xet-Hash"] = entry["lfs"]["sha256"]  # it has hashes of its own, as long
            headers["X-Xet-Refresh-Route"] = f"http://{self.headers['Host']}/xet-token"
        port = self.server.server_address[1]
        headers["Location"] = f"http://localhost:{port}/cdn/{name}/{file}"
        self._send(302, b"", headers)

    def _xet_store(self, hub: Hub) -> dict[str, str]:
        return {
            "X-Xet-Cas-Url": f"{hub.url}/xet",
            "X-Xet-Access-Token": "token",
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }

    def _send_file(self, repository: Repository, file: str, headers: dict[str, str]) -> None:
        data = repository.sent.get(file, repository.files[file])
        status, start = 200, 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(found[1])
            headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            status, data = 206, data[start:]
        if self.command == "GET":
            hub: Hub = self.server.hub  # type: ignore[attr-defined]
            hub.ranges.append((file, start))
        if file in repository.stalls and self.command == "GET":
            return self._stall(data)
        until = repository.drops.pop(file, None) if self.command == "GET" else None
        self._send(status, data, headers, until)

    def _stall(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        hub.stalled.set()
        hub.over.wait()

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(
            status,
            json.dumps({"error": message}).encode(),
            {"X-Error-Code": code, "X-Error-Message": message},
        )

    def _send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        until: int | None = None,
    ) -> None:
        self.send_response(status)
        for header, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:until])
        if until is not None:
            self.close_connection = True
