"""Models that bring code of their own, in a process of their own: `process` starts and asks it, `child` is it, `fence` holds it.

No approval is asked for here: whoever opens such a model has one in hand (`adapters/approvals`).
"""
