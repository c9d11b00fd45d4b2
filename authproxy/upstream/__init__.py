"""Connections to authentik (HTTP/1.1) and the pool that keeps them."""
