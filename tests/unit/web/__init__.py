"""Tests of router/web."""
