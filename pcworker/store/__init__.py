"""Where results are kept: stores, keys, the commit protocol, tables."""
