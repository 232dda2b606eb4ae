"""The report: what a run found, as pages that open without a server or a network.

Each page is named by its finding in one sentence. Pages of counts and sums may be
shared; those that show persons lie in a folder of their own.
"""
