"""The benchmark: workloads, the peers that a user would pick instead, rooflines, and how they are measured."""
