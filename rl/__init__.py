"""Entry points of the jobs, and the leaves of the algorithm beside them."""
