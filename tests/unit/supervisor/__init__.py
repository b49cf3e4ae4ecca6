"""Tests of router/supervisor."""
