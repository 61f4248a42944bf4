"""Generated from protos/kindling/v1: the public wire types."""
