"""A server of files that is S3 enough to be read from: it counts requests, and each takes a while."""

import http.server
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def serving(folder: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """A URI of the folder's files, each request to which takes so long, and the number of requests, as `.value`."""
    context = multiprocessing.get_context("fork")
    count, port = context.Value("q", 0), context.Value("i", 0)
    server = context.Process(target=_serve, args=(folder, seconds, count, port), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    try:
        yield f"s3://{folder.name}?endpoint_override=127.0.0.1:{port.value}&scheme=http&region=us-east-1", count
    finally:
        server.terminate()
        server.join()


def _serve(folder: Path, seconds: float, count: Any, port: Any) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            with count.get_lock():
                count.value += 1
            time.sleep(seconds)
            with suppress(ConnectionError):
                self._answer(folder.parent / self.path.split("?")[0].lstrip("/"))

        do_HEAD = do_GET  # noqa: N815 - a name that http.server looks for

        def _answer(self, path: Path) -> None:
            if not path.is_file():
                self.send_response_only(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size, wanted = path.stat().st_size, self.headers.get("Range")
            first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-")) if wanted else (0, size - 1)
            last = min(last, size - 1)
            self.send_response_only(206 if wanted else 200)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
            self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
            self.end_headers()
            self.wfile.flush()
            with path.open("rb") as file:
                while self.command == "GET" and first <= last:
                    first += os.sendfile(self.connection.fileno(), file.fileno(), first, last - first + 1)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()
