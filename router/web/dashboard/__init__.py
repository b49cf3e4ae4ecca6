"""The dashboard on the admin port: pages that say how every model fares, live, and let operators steer."""
