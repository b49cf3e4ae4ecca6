"""One pyfunc version as an HTTP server on a Unix socket.

Rules:
1. Model code runs in this process and in no other of the router's; it gets none of the router's secrets.
2. The socket appears once the model is loaded and warmed up: whoever can connect can predict.
"""
