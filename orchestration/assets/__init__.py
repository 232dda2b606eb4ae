"""One module per verb: each asset reads, calls a pure function and writes."""
