"""Key-encryption keys: where they lie, and what wraps with them."""
