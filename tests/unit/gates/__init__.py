"""Tests of router/gates."""
