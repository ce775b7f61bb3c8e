"""Several versions answer for one model: who draws the lots, what is seen of each arm, and what sends a canary back.

    router (route log -> arms, each prepared like any version) -> plan (lots) -> plane (answers, falls back) -> lanes, shadow
    canary (guards on what all servers saw)                       figures (Prometheus)

Without a route none of this is entered: one comparison a request.
"""
