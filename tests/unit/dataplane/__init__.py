"""Tests of router/dataplane."""
