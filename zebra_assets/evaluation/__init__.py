"""From a candidate and held-out rows to an EvalReport. Whether it may be promoted is `promotion`'s to say."""
