"""Who asks, what they may ask, how often, and what is written down about it. Put together by `guard`."""
