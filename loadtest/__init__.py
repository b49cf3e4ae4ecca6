"""Measurements: what the router costs, and what it withstands."""
