"""The Starlette edge: auth, prefetch, end of call, the journal, health. Its composition root is `service.app`."""
