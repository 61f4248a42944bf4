"""Ways of giving requests an instance."""
