"""The service's composition root: everything that it is made of is wired here, and nowhere else."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.routing import Route

from runtime.clock import Clock, system_clock
from runtime.logs import logger
from runtime.ops import ops_app
from runtime.server import HttpServer
from runtime.settings import Settings, missing
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED
from service.auth import Keys
from service.drain import Drain
from service.end_of_call import EndOfCallWebhook
from service.ended_call import EndedCalls
from service.facts import FactBook, fact_routes
from service.health import ServiceHealth
from service.journal import Journal
from service.prefetch import PrefetchWebhook
from service.prompts import Prompts
from service.quarantine import Quarantine
from service.webhooks import Webhooks
from state.reader import ProfileReader

TOPICS = (CALLS_PREFETCH, CALLS_ENDED, CALLS_REJECTED, CALLERS_FACTS)

REFRESH_S = 1.0  # how soon a state store that appeared, or was replaced, is seen
DRAIN_S = 10.0  # for requests in flight at the end; each has a deadline that is much shorter


class Service:
    """The two listeners and what is behind them. `run` serves until `stop`."""

    def __init__(
        self, settings: Settings, clock: Clock = system_clock, beside: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        """`beside`: what readiness says of programs that run beside the service. Raises `SettingsError`."""
        if not settings.webhook_keys:
            raise missing("WEBHOOK_KEYS", "the webhooks must not be open; write id:secret, several separated by commas")
        identity = settings.identity()
        self._log = logger("service")
        self._journal = Journal(settings, TOPICS, relaxed=(CALLS_PREFETCH,))
        self._reader = ProfileReader(settings.state_dir)
        quarantine = Quarantine(self._journal, clock)
        keys = Keys(settings.webhook_header, settings.webhook_keys.values())
        prefetch = PrefetchWebhook(
            keys, identity, self._reader, Prompts(settings.prompts_dir), self._journal, quarantine, clock
        )
        ended_calls = EndedCalls(identity, clock, settings.max_request_bytes)
        end_of_call = EndOfCallWebhook(
            keys, ended_calls, self._journal, quarantine, max_body_bytes=settings.max_body_bytes
        )
        self.public = Webhooks(prefetch, end_of_call)
        facts = (
            fact_routes(
                FactBook(self._journal, identity, clock),
                self._reader,
                Keys("authorization", [settings.ops_key], "RINGLOG_OPS_KEY"),
            )
            if settings.ops_key
            else []
        )
        self._public_server = HttpServer(self.public, settings.host, settings.port, name="public")
        drain = Route("/drain", Drain(self._public_server.announce_end).answer)
        self.ops = ops_app(ServiceHealth(self._journal, self._reader, beside), [drain, *facts])
        self._ops_server = HttpServer(
            self.ops, settings.host, settings.ops_port, name="ops", port_setting="RINGLOG_OPS_PORT"
        )

    @property
    def ports(self) -> tuple[int, int]:
        """Of the public and of the internal listener; real once `run` has started them."""
        return self._public_server.port, self._ops_server.port

    async def run(self, stop: asyncio.Event) -> None:
        """Raises `SettingsError` when an address can't be had, or when Kafka refuses what it is asked for."""
        journal_stop = asyncio.Event()
        await self._ops_server.start()
        await self._public_server.start()
        journal = asyncio.create_task(self._journal.run(journal_stop), name="journal")
        refresh = asyncio.create_task(self._refresh_state(), name="refresh state")
        stopping = asyncio.create_task(stop.wait())
        self._log.info("the service listens", port=self.ports[0], ops_port=self.ports[1])
        await asyncio.wait({stopping, journal, refresh}, return_when=asyncio.FIRST_COMPLETED)
        # Listeners first, then the journal: a request in flight still gets its acknowledgement.
        await self._public_server.stop(DRAIN_S)
        journal_stop.set()
        refresh.cancel()
        await self._ops_server.stop(1.0)
        self._reader.close()
        stopping.cancel()
        for task in (journal, refresh):
            with suppress(asyncio.CancelledError):
                await task
        self._log.info("the service has stopped")

    async def _refresh_state(self) -> None:
        while True:
            self._reader.refresh()
            await asyncio.sleep(REFRESH_S)
