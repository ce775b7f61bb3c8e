"""The Open Inference Protocol V2 over gRPC, on a port of its own; nothing in here is imported while no setting asks for it.

`messages` are the protocol's, `gateway` translates a call into the same request over REST and back, `server` listens.
"""
