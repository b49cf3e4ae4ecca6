"""Tests of router/control."""
