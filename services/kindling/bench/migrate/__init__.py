"""Measures what readers notice when a running generation moves to another worker, or loses its worker."""
