"""Pure rules of the storage manager: the chunk pool's book-keeping, residency, eviction."""
