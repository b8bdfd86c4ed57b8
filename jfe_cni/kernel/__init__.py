"""The only place that opens netlink, enters a namespace or loads a rule. What it offers the agent is `cover`."""
