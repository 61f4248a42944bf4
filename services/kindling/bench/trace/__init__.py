"""`kindling bench trace`: what tracing costs a worker's decode step."""
