"""Mutual TLS 1.3 between unmodified programs, with every address unchanged."""
