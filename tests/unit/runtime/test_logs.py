"""Logs: lines for machines or people, without numbers, and without what variables hold."""

import json
import logging
from collections.abc import Iterator

import pytest

from runtime.logs import Format, configure_logs, logger
from tests.logging_restored import logs_restored


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with logs_restored():
        yield


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_line_is_json_with_time_level_process_and_part(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("service", "json")
    logger("service.journal").warning("Kafka is away", retry_in_s=0.1)
    (line,) = said(capfd)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "Kafka is away",
        "level": "warning",
        "process": "service",
        "part": "service.journal",
        "retry_in_s": 0.1,
    }


def test_a_level_leaves_out_what_is_below(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("service", "json", "warning")
    log = logger("x")
    log.info("a")
    log.warning("b")
    assert [line["event"] for line in said(capfd)] == ["b"]


def test_what_libraries_say_looks_the_same_from_warnings_on(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("service", "json", "debug")
    logging.getLogger("library").info("too much")
    logging.getLogger("library").warning("worth %s", "knowing")
    logging.getLogger("aiokafka.client").error("again and again")
    (line,) = said(capfd)
    assert (line["event"], line["level"], line["process"]) == ("worth knowing", "warning", "service")


@pytest.mark.parametrize("format_", ["json", "pretty"])
@pytest.mark.parametrize("ours", [True, False])
def test_a_traceback_shows_where_and_not_what_variables_hold(
    capfd: pytest.CaptureFixture[str], format_: Format, ours: bool
) -> None:
    configure_logs("service", format_)

    def fails() -> None:
        secret = "hu" + "sh"
        raise KeyError(len(secret), "+1555" + "1234567")

    try:
        fails()
    except KeyError:
        if ours:
            logger("x").exception("failed")
        else:
            logging.getLogger("library").exception("failed")
    text = capfd.readouterr().err
    assert "KeyError" in text and "fails" in text and "[number]" in text
    assert "hush" not in text
    assert "5551234567" not in text


@pytest.mark.parametrize("number", ["+15551234567", "%2B15551234567", "from=%2b4915112345678&", "<sip:+15551234567@x>"])
def test_a_number_in_any_text_is_left_out(capfd: pytest.CaptureFixture[str], number: str) -> None:
    configure_logs("service", "json")
    logger("x").info(f"it says {number}", number=number)
    text = capfd.readouterr().err
    assert "5551234567" not in text and "15112345678" not in text
    assert text.count("[number]") == 2
