"""The process that owns the listening sockets and the children: sockets, children, signals, nothing else."""
