"""Copies of the state store in object storage: a new instance starts from one, and replays what came since."""
