"""Runs inside of the cluster, in a pod of ringlog's image: calls, without a second try, and what came of each.

`python -c <this file> URL SECONDS RATE`: after so long, or at SIGTERM, it prints one JSON object. A half of the calls
shares connections that are kept open, as a proxy's are, the other half opens a new one each time.
"""

import asyncio
import json
import os
import signal
import sys
import time

import aiohttp

ANSWER_WITHIN_S = 15  # longer than any deadline of the service: an answer that comes late is not a lost one
CALLERS = 40  # enough for every partition of a test


def number_of(session_id):
    """Who makes the call of a session: one after the other."""
    return f"+1555123{int(session_id.rpartition('-')[2]) % CALLERS:04}"


class Caller:
    def __init__(self, url, secret):
        self.url = url
        self.headers = {"authorization": f"Bearer {secret}"}
        self.accepted = []
        self.failed = []
        self.slowest_s = 0.0

    def session(self):
        return aiohttp.ClientSession(headers=self.headers, timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S))

    async def call(self, number, shared):
        session_id = f"{os.environ['HOSTNAME']}-{number}"
        try:
            if number % 2:
                await self.both(shared, session_id)
            else:
                async with self.session() as own:
                    await self.both(own, session_id)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failed.append(f"{session_id}: {type(error).__name__} {error}")

    async def both(self, http, session_id):
        number = number_of(session_id)
        query = {"session_id": session_id, "agent_id": "a", "from": number, "to": "+15550001111"}
        began = time.perf_counter()
        async with http.get(f"{self.url}/webhooks/prefetch", params=query) as answer:
            prefetch = await answer.json()
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
        if answer.status != 200 or "extra_prompt" not in prefetch:
            self.failed.append(f"{session_id}: prefetch {answer.status}")
        body = {
            "session_id": session_id,
            "agent_id": "a",
            "voip": {"from": number, "to": "+15550001111"},
            "cost_breakdown": [{"type": "stt", "provider": "p", "credit": 0.25}],
        }
        async with http.post(f"{self.url}/webhooks/end-of-call", data=json.dumps(body)) as answer:
            await answer.read()
        if answer.status == 200:
            self.accepted.append(session_id)
        else:
            self.failed.append(f"{session_id}: end of call {answer.status}")


async def main(url, seconds, rate):
    caller = Caller(url, os.environ["SECRET"])
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with caller.session() as shared, asyncio.TaskGroup() as calls:
        for number in range(int(seconds * rate)):
            if stopping.is_set():
                break
            calls.create_task(caller.call(number, shared))
            await asyncio.sleep(1 / rate)
    print(json.dumps({"accepted": caller.accepted, "failed": caller.failed, "slowest_s": caller.slowest_s}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
