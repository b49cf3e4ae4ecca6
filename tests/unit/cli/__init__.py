"""Tests of router/cli."""
