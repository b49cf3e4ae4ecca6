"""One test module per source module, in the same tree."""
