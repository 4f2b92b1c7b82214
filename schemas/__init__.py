"""What flows through ringlog: webhook shapes, events, topics, money, caller identity. Pure: no I/O, no settings."""
