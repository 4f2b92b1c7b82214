"""What we know of each caller, folded from the events: the pure fold, and the LMDB store with its writer and reader."""
