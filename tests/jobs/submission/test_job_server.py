"""The job server's client where the server is in trouble: one that is not ready, one that refuses, one that is gone."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dap_engine.engine.execution.placement import ClusterError
from dap_engine.jobs.submission import job_server
from dap_engine.jobs.submission.job_server import JobServer


@pytest.fixture
def server(monkeypatch):
    """A server that answers as Ray's does; `answers` are those to the next submissions, the last one stays."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # restored afterwards
    monkeypatch.setattr(job_server, "_TRY_EVERY_S", 0.05)
    answers: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": ""}))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*(answers.pop(0) if len(answers) > 1 else answers[0]))

        def answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield JobServer(f"http://127.0.0.1:{http.server_port}"), answers
        http.shutdown()
        thread.join()


NOT_READY = (500, "No available agent to submit job, please try again later.")
DONE = (200, json.dumps({"job_id": "a", "submission_id": "a"}))


def submit(server: JobServer, folder) -> list[str]:
    said: list[str] = []
    server.submit("true", "a", "/run", folder, said.append)
    return said


def test_a_cluster_that_has_just_begun_is_asked_again(server, tmp_path):
    client, answers = server
    answers[:] = [NOT_READY, NOT_READY, DONE]
    assert submit(client, tmp_path) == ["the cluster has no agent for a job yet: trying again for 60 s"]


def test_one_that_stays_so_is_given_up(server, tmp_path, monkeypatch):
    client, answers = server
    answers[:] = [NOT_READY]
    monkeypatch.setattr(job_server, "_TRY_FOR_S", 0.5)
    with pytest.raises(ClusterError, match="No available agent"):
        submit(client, tmp_path)


def test_a_refusal_is_one_line_and_is_not_asked_again(server, tmp_path):
    client, answers = server
    answers[:] = [(500, "Traceback (most recent call last):\n  File 'x'\nValueError: no room"), DONE]
    with pytest.raises(ClusterError) as refused:
        submit(client, tmp_path)
    assert str(refused.value).endswith("status code 500: Traceback (most recent call last): … ValueError: no room.")
    assert len(str(refused.value).splitlines()) == 1
