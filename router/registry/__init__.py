"""MLflow behind a small protocol: what a model URI means, where it comes from, and its files.

Rules:
1. MLflow is imported by short-lived children alone (`python -m router.registry`); `client` starts them.
2. Whatever a registry answers becomes a value of `types` or a RouterError, never a foreign exception.
"""
