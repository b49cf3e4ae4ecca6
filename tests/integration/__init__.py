"""Tests against real processes, sockets and programs."""
