"""Tests of router/registry."""
