"""Tests of router/config."""
