"""`ringlog serve` as a process: what it refuses, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.scheduling import SLICE_NS
from tests.slices import slice_ns

ROOT = Path(__file__).parents[2]

NEEDED = {
    "RINGLOG_HOST": "127.0.0.1",
    "RINGLOG_PORT": "0",
    "RINGLOG_OPS_PORT": "0",
    "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "RINGLOG_WEBHOOK_KEYS": "a:hush-webhook",
    "RINGLOG_IDENTITY_KEY": "hush-identity-key",
    "RINGLOG_LOG_FORMAT": "json",
}


def serve(folder: Path, *options: str, **changes: str | None) -> "subprocess.Popen[str]":
    wanted = {**NEEDED, "RINGLOG_DATA_DIR": str(folder), **{f"RINGLOG_{name}": v for name, v in changes.items()}}
    environment = {**os.environ, **{name: value for name, value in wanted.items() if value is not None}}
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve", *options],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_KEYS", None),
        ("WEBHOOK_KEYS", "hush"),
        ("IDENTITY_KEY", None),
        ("IDENTITY_KEY", "hush"),
        ("KAFKA_BOOTSTRAP_SERVERS", None),
        ("KAFKA_BOOTSTRAP_SERVERS", "nowhere"),
        ("PORT", "web"),
        ("HOST", "192.0.2.1"),
        ("PROMPTS_DIR", "/nowhere/at/all"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_2(tmp_path: Path, name: str, value: str | None) -> None:
    refused = serve(tmp_path, **{name: value})
    out, said = refused.communicate(timeout=30)
    assert (refused.returncode, out) == (2, "")
    sentence = " ".join(line for line in said.splitlines() if not line.startswith("{"))
    named = "KAFKA_SASL_USERNAME" if name == "KAFKA_SECURITY_PROTOCOL" else name
    assert sentence.startswith(f"RINGLOG_{named}")
    assert "Traceback" not in said
    assert "hush" not in said


def test_a_misspelt_setting_is_named_at_the_start(tmp_path: Path) -> None:
    refused = serve(tmp_path, RECORDING_HOST="example.com", IDENTITY_KEY=None)
    _, said = refused.communicate(timeout=30)
    assert (
        "there is no setting RINGLOG_RECORDING_HOST, so it changes nothing; is RINGLOG_RECORDING_HOSTS meant?" in said
    )


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = serve(tmp_path, PORT=str(taken.getsockname()[1]))
        _, said = refused.communicate(timeout=30)
    assert refused.returncode == 2
    assert "RINGLOG_PORT: 127.0.0.1:" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["PORT", "OPS_PORT"])
def test_a_port_for_the_service_and_its_builder_is_one_sentence_and_exit_code_2(tmp_path: Path, name: str) -> None:
    refused = serve(tmp_path, "--with-profiles", **{name: "9099", "BUILDER_OPS_PORT": "9099"})
    _, said = refused.communicate(timeout=30)
    assert refused.returncode == 2
    assert (
        said == f"RINGLOG_BUILDER_OPS_PORT is 9099, as RINGLOG_{name} is: the profile builder needs one of its own.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_without_kafka(tmp_path: Path, number: signal.Signals) -> None:
    serving = serve(tmp_path)
    assert serving.stderr is not None
    for line in serving.stderr:
        if "the service listens" in line:
            break
    serving.send_signal(number)
    _, said = serving.communicate(timeout=15)
    assert serving.returncode == 0
    assert "the service has stopped" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not slice_ns(os.getpid()), reason="this kernel has no slices to ask for (Linux 6.12 has)")
def test_it_is_let_in_soon_where_others_work(tmp_path: Path) -> None:
    """Kafka is away, and it listens all the same."""
    running = serve(tmp_path)
    try:
        assert running.stderr is not None
        assert any("the service listens" in line for line in running.stderr)
        assert slice_ns(running.pid) == SLICE_NS
    finally:
        running.kill()
        running.communicate()
