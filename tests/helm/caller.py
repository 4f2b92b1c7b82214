"""Runs inside of the cluster, in a pod of ringlog's image: calls, without a second try, and what came of each.

`python -c <this file> URL SECONDS RATE`: it prints one JSON object at its end. A half of the calls shares connections
that are kept open, as a proxy's are, the other half opens a new one each time.
"""

import asyncio
import json
import os
import sys
import time

import aiohttp

ANSWER_WITHIN_S = 15  # longer than any deadline of the service: an answer that comes late is not a lost one
NUMBER = "+15551230000"


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
        query = {"session_id": session_id, "agent_id": "a", "from": NUMBER, "to": "+15550001111"}
        began = time.perf_counter()
        async with http.get(f"{self.url}/webhooks/prefetch", params=query) as answer:
            prefetch = await answer.json()
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
        if answer.status != 200 or "extra_prompt" not in prefetch:
            self.failed.append(f"{session_id}: prefetch {answer.status}")
        body = {
            "session_id": session_id,
            "agent_id": "a",
            "voip": {"from": NUMBER, "to": "+15550001111"},
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
    async with caller.session() as shared, asyncio.TaskGroup() as calls:
        for number in range(int(seconds * rate)):
            calls.create_task(caller.call(number, shared))
            await asyncio.sleep(1 / rate)
    print(json.dumps({"accepted": caller.accepted, "failed": caller.failed, "slowest_s": caller.slowest_s}))  # noqa: T201


asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
