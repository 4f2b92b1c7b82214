"""The fault suite: real processes, real brokers, and an oracle outside of both."""
