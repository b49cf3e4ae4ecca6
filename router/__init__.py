"""canary-router: a canary routing proxy in front of model servers."""

__version__ = "0.1.0"
