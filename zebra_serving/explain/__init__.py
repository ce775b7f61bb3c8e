"""Why a row was given its score: each column's share of it, in Shapley values, from a helper process.

    server process                                              helper process (lightshap, numpy)
    doors/explaining -> helper  ─ Job: folder, digest, rows ─>  __main__ -> shares -> the served form
                                <─ Told: one Share a row ───

The server's own process imports none of what explains; it pays nothing until somebody asks, and its answers to everybody else
do not wait for the helper. `words` is what both sides share.
"""
