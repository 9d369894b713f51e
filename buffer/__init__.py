"""Every sampling decision: curriculum, leases, staleness, groups, priorities, durability."""
