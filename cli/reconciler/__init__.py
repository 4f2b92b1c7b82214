"""Asks the provider for calls whose end did not arrive. `docs/calls.md`."""
