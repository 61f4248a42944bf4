"""An object store as far as reading goes: serves a directory's files over HTTP, whole or by ranges, by sendfile.

``python -m kindling.bench.load.http_server DIRECTORY`` prints the port it took and serves until it is ended.
"""

import os
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = Path()

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, *_args: Any) -> None:
        return

    def _answer(self, *, send_body: bool) -> None:
        path = (self.root / unquote(self.path).lstrip("/")).resolve()
        if not path.is_file() or not path.is_relative_to(self.root):
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with path.open("rb") as file:
            start, length = self._send_head(os.fstat(file.fileno()))
            if send_body:
                self._send_body(file.fileno(), start, length)

    def _send_head(self, status: os.stat_result) -> tuple[int, int]:
        """Send status and headers; return what is to follow: first byte and length."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        end = min(int(match[2]) + 1 if match and match[2] else status.st_size, status.st_size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if match else HTTPStatus.OK)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{status.st_size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))
        self.end_headers()
        return start, end - start

    def _send_body(self, descriptor: int, start: int, length: int) -> None:
        self.wfile.flush()
        while length:
            sent = os.sendfile(self.connection.fileno(), descriptor, start, length)
            if not sent:
                break
            start, length = start + sent, length - sent


def main() -> None:
    """Serve until ended."""
    _Handler.root = Path(sys.argv[1]).resolve()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
