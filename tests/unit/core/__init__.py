"""Tests of router/core."""
