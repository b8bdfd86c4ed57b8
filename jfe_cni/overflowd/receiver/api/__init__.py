"""The receiver over HTTP: what takes notices in, open to everybody, and what shows them, which is not."""
