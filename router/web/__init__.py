"""The admin port: composition root of the control process, its API, metrics and page."""
