"""Two replicas on one PostgreSQL, on this host and for a while: `ratelock demo`."""
