"""ringlog measured against peers that do the same, and against the floor. `make bench`."""
