"""The demo's OpenAI client against a real HTTP server."""

import http.server
import json
import threading

import pytest

from kindling.cli.ports import free_ports
from kindling.cli.streaming import Question, ask
from kindling.platform.errors import InternalError


def chunk(text):
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["content-length"])
        self.server.seen = (self.path, json.loads(self.rfile.read(length)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status, server.url = 200, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_text_is_passed_on_piece_by_piece(server):
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    usage = b'data: {"choices": []}\n\n'
    server.answer = b": loading\n\n" + role + chunk("He") + chunk("llo") + usage + b"data: [DONE]\n\n"
    pieces = []
    answer = ask(server.url, Question("m", "Hi", 5), pieces.append)
    assert (answer.text, pieces) == ("Hello", ["He", "llo"])
    assert 0 < answer.first_token_seconds < 10
    path, body = server.seen
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert (body["stream"], body["max_tokens"]) == (True, 5)


def test_a_model_without_a_chat_template_is_asked_to_continue(server):
    server.answer = b'data: {"choices": [{"text": " there"}]}\n\ndata: [DONE]\n\n'
    assert ask(server.url, Question("m", "Hi", 5, chat=False), lambda _: None).text == " there"
    path, body = server.seen
    assert (path, body["prompt"]) == ("/v1/completions", "Hi")


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (404, b'{"error": {"message": "no model m"}}', "404: no model m"),
        (502, b"<html>", "502: <html>"),
        (200, chunk("Hel"), r"ended without \[DONE\]"),
        (200, chunk("Hel") + b'data: {"error": {"message": "the worker died"}}\n\n', "the worker died"),
    ],
)
def test_what_is_not_a_whole_answer_is_an_error(server, status, answer, message):
    server.status, server.answer = status, answer
    with pytest.raises(InternalError, match=message):
        ask(server.url, Question("m", "Hi", 5), lambda _: None)


def test_nobody_there_is_an_error():
    with pytest.raises(InternalError, match="refused"):
        ask(f"http://127.0.0.1:{free_ports(1)[0]}", Question("m", "Hi", 5), lambda _: None)
