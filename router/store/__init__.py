"""Durable facts: what has to survive a restart, behind a small protocol."""
