"""The scheduler: places each cold start where it will be ready soonest."""
