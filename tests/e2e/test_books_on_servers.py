"""The books of a company: PostgreSQL and S3, with everything that goes wrong on the way of a webhook."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.whole_ringlog import WholeRinglog

SHARES = ["--duplicates", "10%", "--revisions", "5%", "--odd", "10%", "--lost", "5%", "--seed", "41"]


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("calls", [2000])
def test_what_was_lost_is_recovered_and_the_books_agree_to_the_micro_credit(
    new_database: Callable[[], str], s3: str, tmp_path: Path, calls: int
) -> None:
    plan = ["simulate", "--calls", str(calls), *SHARES]
    with WholeRinglog(tmp_path, database_url=new_database(), recordings_url=s3) as ringlog:
        provider = ringlog.spawn(*plan, "--serve")
        try:
            ringlog.wait(lambda: _ended(ringlog) >= round(calls * 0.945), "what was not lost has ended", 300)
            asked = {"millis_api_url": f"http://{ringlog.up['simulator']}", "millis_api_key": "of-the-provider"}
            done = ringlog.ringlog("reconcile", "--since", "2026-01-01", "--rate", "200", "--json", **asked)
            assert json.loads(done.stdout)["recovered"] == calls * 0.05, done.stderr
            verified = ringlog.ringlog(*plan, "--no-deliver", "--verify", "--patience", "240")
            assert verified.returncode == 0, verified.stdout[-3000:]
            audited = ringlog.ringlog("billing", "verify")
            assert audited.returncode == 0, audited.stdout[-3000:]
            hashed = ringlog.ringlog("recordings", "verify")
            assert hashed.returncode == 0, hashed.stdout[-3000:]
        finally:
            provider.send_signal(signal.SIGINT)
            provider.communicate(timeout=30)


def _ended(ringlog: WholeRinglog) -> int:
    count: int = ringlog.rows("select count(*) as n from call_log where ended_at is not null")[0]["n"]
    return count
