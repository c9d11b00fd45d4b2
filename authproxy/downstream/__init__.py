"""Connections from clients: one module for each HTTP version, all carrying exchanges."""
