"""The storage manager: one per node, keeps checkpoints across the node's tiers."""
