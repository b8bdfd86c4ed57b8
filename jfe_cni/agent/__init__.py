"""The daemon of a node: a workload's life from enrolment to removal, and the upgrader's supervisor."""
