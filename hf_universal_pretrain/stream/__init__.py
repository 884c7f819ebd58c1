"""Algorithm 1: machines enrich a buffer, rows are sampled from it."""
