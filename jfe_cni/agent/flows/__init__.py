"""The node's own flows, told as IPFIX: of enrolled workloads by the upgrader's events, of all else by conntrack."""
