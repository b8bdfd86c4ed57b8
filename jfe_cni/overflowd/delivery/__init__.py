"""How notices get to the two ends of a flow, and to nobody else."""
