"""Tests of router/store."""
