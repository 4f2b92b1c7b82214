"""Where the tests' S3 comes from, and what is said when it comes from nowhere."""

from pathlib import Path

import pytest

from tests.sources import s3
from tests.sources.origin import FORCED, Unavailable
from tests.sources.s3 import aws_variables, bucket_of, open_s3, own_gateway

ADDRESS = "http://key:secret@s3.example:9000/bucket"


@pytest.fixture(autouse=True)
def no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FORCED, raising=False)
    monkeypatch.delenv(s3.TESTBED, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")


def test_without_any_it_is_said_what_there_might_have_been() -> None:
    missing = "RINGLOG_TEST_S3_URL is not set; no Docker engine answers .*; versitygw is not on the path, and TESTBED"
    with pytest.raises(Unavailable, match=missing), open_s3():
        raise AssertionError("there was one")


def test_what_is_given_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_TEST_S3_URL", ADDRESS)
    with open_s3() as server:
        assert server.address == ADDRESS
    assert bucket_of(ADDRESS) == "bucket"
    assert aws_variables(ADDRESS) == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": "http://s3.example:9000",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }


def test_a_build_that_fails_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = tmp_path / s3.BUILD
    build.write_text("#!/bin/sh\necho no compiler >&2; exit 1\n")
    build.chmod(0o755)
    monkeypatch.setenv(s3.TESTBED, str(tmp_path))
    with pytest.raises(Unavailable, match="could not build versitygw: no compiler"), own_gateway():
        raise AssertionError("there was one")


def test_a_program_that_ends_at_once_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / s3.PROGRAM
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="versitygw does not answer at 127"), own_gateway():
        raise AssertionError("there was one")
