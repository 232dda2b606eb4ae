"""What is said to us by HTTP: opt-outs, webhooks and events, as landing files.

It reads no table and judges nothing: what it writes is read by the next run, and by the
guard before that, as any landed file.
"""

INBOUND = "inbound"
"""The folder of the landing folder that it writes to."""
