"""The gateway: OpenAI-compatible HTTP and gRPC for clients; owns their open streams."""
