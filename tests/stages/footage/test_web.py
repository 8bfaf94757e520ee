"""Videos that a list names on web servers: fetched within limits, or a drop that says why not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dap_engine.engine.storage import faults
from dap_engine.models.video.file import VideoError
from dap_engine.stages.extract import Extract
from dap_engine.stages.footage import web
from dap_engine.stages.footage.fetch import local_copy
from dap_engine.stages.footage.web import Fetch
from dap_engine.stages.plan import Plan
from tests.footage import panorama, write_video
from tests.runs import finished, rows_of

HERE = Fetch(private_addresses=True, timeout_s=1.0)


class Server(ThreadingHTTPServer):
    """Answers by path: a function gets the handler and says everything. `asked` counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked = Counter[str]()
        self.done = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.server.answers.get(self.path, status(404))(self)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(data: bytes, promised: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends data, and says that there are `promised` bytes; 0: does not say."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if promised != 0:
            handler.send_header("Content-Length", str(promised or len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(faults, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.1)
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.done.set()
        server.shutdown()
    web._retry_policy.cache_clear()


def read(url: str, settings: Fetch = HERE) -> bytes:
    with local_copy(url, "", settings) as path:
        return Path(path).read_bytes()


def refusal(url: str, settings: Fetch = HERE) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read(url, settings)
    return caught.value


def test_a_list_of_urls_becomes_frames_and_drops(tmp_path, server):
    write_video(tmp_path / "a.mp4", [panorama(64, 1)] * 5)
    server.answers["/a.mp4?key=1"] = content(Path(tmp_path / "a.mp4").read_bytes())
    (tmp_path / "list.txt").write_text(f"{server.url('/a.mp4?key=1')}\n{server.url('/gone.mp4')}\n")
    run = finished(tmp_path / "run", Plan(videos=str(tmp_path / "list.txt")), Extract(height=64, fetch=HERE))
    assert run.receipts("frames").drops == {"unreachable": 1}
    assert len(rows_of(run, "frames")) == 1
    assert Extract().settings() == Extract(fetch=HERE).settings()  # how it came here is not what it is


def test_the_cache_asks_once(tmp_path, server):
    server.answers["/a.mp4"] = content(b"video")
    cached = Fetch(cache=str(tmp_path / "cache"), private_addresses=True)
    assert [read(server.url("/a.mp4"), cached) for _ in range(2)] == [b"video"] * 2
    assert server.asked["/a.mp4"] == 1
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".mp4"]
    refusal(server.url("/gone.mp4"), cached)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_private_addresses_are_not_asked_unless_that_is_allowed(server):
    server.answers["/a.mp4"] = content(b"secret")
    error = refusal(server.url("/a.mp4"), Fetch())
    assert (error.code, server.asked["/a.mp4"]) == ("unreachable", 0)
    assert "127.0.0.1 is no public address; extract.fetch.private_addresses=true allows it" in error.detail


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4"])
def test_redirects_lead_to_web_servers_alone(server, target):
    server.answers["/there.mp4"] = content(b"video")
    server.answers["/a.mp4"] = status(302, Location="/there.mp4")
    assert read(server.url("/a.mp4")) == b"video"
    server.answers["/b.mp4"] = status(302, Location=target)
    assert refusal(server.url("/b.mp4")).code == "unreachable"


def test_what_is_transient_is_tried_again(server):
    answers = [status(503), content(b"vid", promised=5), content(b"video")]
    server.answers["/a.mp4"] = lambda handler: answers.pop(0)(handler)
    assert read(server.url("/a.mp4")) == b"video"
    assert server.asked["/a.mp4"] == 3


@pytest.mark.parametrize(("code", "times"), [(403, 1), (410, 1), (500, 3)])
def test_a_refusal_is_final_and_a_server_in_trouble_is_not(server, code, times):
    server.answers["/a.mp4"] = status(code)
    error = refusal(server.url("/a.mp4"))
    assert error.code == "unreachable"
    assert str(code) in error.detail
    assert server.asked["/a.mp4"] >= times
    assert times == 3 or server.asked["/a.mp4"] == 1


def test_a_silent_server_is_waited_for_no_longer_than_said(server):
    server.answers["/a.mp4"] = lambda handler: server.done.wait(30)
    assert refusal(server.url("/a.mp4"), Fetch(timeout_s=0.2, private_addresses=True)).code == "unreachable"


@pytest.mark.parametrize("promised", [None, 0])
def test_a_file_that_is_too_large_is_a_drop(server, promised):
    server.answers["/a.mp4"] = content(b"x" * 2000, promised)
    error = refusal(server.url("/a.mp4"), Fetch(max_gb=1e-6, private_addresses=True))
    assert (error.code, server.asked["/a.mp4"]) == ("file_too_large", 1)


def test_passwords_are_not_told(server):
    url = server.url("/gone.mp4").replace("//", "//me:secret@")
    assert "secret" not in refusal(url).detail
