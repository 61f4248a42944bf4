"""gRPC servers and channels as every service uses them."""
