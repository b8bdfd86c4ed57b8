"""The node's part of the Container Network Interface: what a runtime's call means, and how it comes to call us."""
