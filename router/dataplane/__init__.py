"""The request path: bytes enter the protocol, are matched, a version is picked, an upstream answers."""
