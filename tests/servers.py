"""A web server on loopback that serves files in parts, counts what it sends, and fails as it is told."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote


@dataclass
class Served:
    """What a server has and did.

    Attributes
    ----------
    folder : Path
        Its files, at `/NAME`.
    answers : dict
        JSON, by path with the query.
    n_bytes, n_requests : int
        Bytes of files that were sent, and requests for them.
    breaks_after : int or None
        Bytes after which it closes every connection.
    has_ranges, has_state : bool
        Whether it sends parts of files, and an ETag.
    refused : dict
        Status that it answers, by path; None ends the connection without an answer.
    """

    folder: Path
    url: str = ""
    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    n_bytes: int = 0
    n_requests: int = 0
    breaks_after: int | None = None
    has_ranges: bool = True
    has_state: bool = True
    refused: dict = field(default_factory=dict)


@contextmanager
def serving(folder):
    """Serve a folder at `served.url` meanwhile."""
    served = Served(Path(folder))

    class Handler(_Handler):
        state = served

    server = _Server(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing: clients may go when they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Served

    def do_HEAD(self):
        self.do_GET(with_body=False)

    def do_GET(self, with_body=True):
        state = self.state
        state.asked.append(self.path)
        if self.path in state.answers:
            self._send(200, json.dumps(state.answers[self.path]).encode(), {})
            return
        place, _, query = self.path.partition("?")
        if place in state.refused:
            if state.refused[place] is None:
                self.close_connection = True
                return
            self._send(state.refused[place], b"refused", {}, with_body)
            return
        if "list-type=2" in query:
            self._send(200, _listed(state.folder / unquote(place).strip("/"), query), {})
            return
        path = state.folder / unquote(place).lstrip("/")
        if not path.is_file():
            self._send(404, b"nothing here", {}, with_body)
            return
        size = path.stat().st_size
        headers = {"ETag": f'"{path.stat().st_mtime_ns}-{size}"'} if state.has_state else {}
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not state.has_ranges:
            part = None
        else:
            headers["Accept-Ranges"] = "bytes"
        if not with_body:
            self._send(200, None, headers | {"Content-Length": str(size)}, with_body)
            return
        start, stop = (int(part[1]), min(int(part[2]) + 1, size)) if part else (0, size)
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        state.n_requests += 1
        self._send(206 if part else 200, data, headers)

    def _send(self, status, data, headers, with_body=True):
        state = self.state
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if data is not None:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if data is None or not with_body:
            return
        if state.breaks_after is not None:
            room = max(0, state.breaks_after - state.n_bytes)
            if len(data) > room:
                data = data[:room]
                self.close_connection = True
        if status in (200, 206) and self.path not in state.answers:
            state.n_bytes += len(data)
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


def _listed(bucket, query):
    """Return the files of a bucket under a prefix, as S3 lists them."""
    prefix = parse_qs(query).get("prefix", [""])[0]
    files = {path.relative_to(bucket).as_posix(): path for path in bucket.rglob("*") if path.is_file()}
    rows = [
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{hashlib.md5(files[key].read_bytes()).hexdigest()}&quot;</ETag>"
        f"<Size>{files[key].stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in sorted(files)
        if key.startswith(prefix)
    ]
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket.name}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(rows)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>"
    )
    return text.encode()
