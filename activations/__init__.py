"""Send list in, receipts out: what goes to whom, exactly once, and in which words."""
