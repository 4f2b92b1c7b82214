"""The example against a real HTTP server, without a broker."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from notify_over_http import NotifyOverHttp

from consumers.testing import Trial, ended, killed_everywhere, odd_calls, revised


class Receiver(ThreadingHTTPServer):
    """Remembers the keys that it has seen, as a good receiver does. `answers` are given first, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.answers: list[int] = []
        self.told: dict[str, str] = {}
        self.requests = 0


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests += 1
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            self.server.told.setdefault(self.headers["idempotency-key"], said["text"])
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "30")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_each_call_is_told_and_a_repeated_webhook_changes_nothing(receiver: Receiver) -> None:
    call = ended("session-1")
    with Trial(call, call, revised(call, call_status="timeout")) as trial:
        trial.run(lambda: NotifyOverHttp(receiver.url))
    assert list(receiver.told.values()) == [
        "Call session-1 ended after 120 s: user-ended.",
        "Call session-1 ended after 120 s: timeout.",
    ]
    assert receiver.requests == 3


def test_a_receiver_that_fails_is_waited_for_and_no_call_is_given_up(receiver: Receiver) -> None:
    receiver.answers = [503, 500, 429]
    with Trial(ended("session-1")) as trial:
        trial.run(lambda: NotifyOverHttp(receiver.url))
        assert trial.pauses == [0, 0, 30], "429 said for how long"
        assert trial.dead_letters == []
    assert len(receiver.told) == 1


def test_what_the_receiver_refuses_is_a_dead_letter_and_the_others_are_told(receiver: Receiver) -> None:
    receiver.answers = [200, 400, 200, 400, 400, 400]
    calls = [ended(f"session-{n}") for n in range(3)]
    with Trial(*calls, partitions=1) as trial:
        trial.run(lambda: NotifyOverHttp(receiver.url))
        assert [letter.error for letter in trial.dead_letters] == ["ClientResponseError"]
    assert len(receiver.told) == 2


def test_wherever_it_is_killed_each_call_is_known_to_the_receiver_once(receiver: Receiver) -> None:
    calls = [ended(f"session-{n}") for n in range(4)]
    for trial in killed_everywhere(*calls, most=30):
        receiver.told.clear()
        trial.run(lambda: NotifyOverHttp(receiver.url))
        assert len(receiver.told) == 4, trial


def test_no_odd_call_is_given_up(receiver: Receiver) -> None:
    with Trial(*odd_calls()) as trial:
        trial.run(lambda: NotifyOverHttp(receiver.url))
        assert trial.dead_letters == []
    assert len(receiver.told) == len(odd_calls())
