"""Secrets and the rules for using them, in a service that its callers can invoke, but neither change nor bypass."""
