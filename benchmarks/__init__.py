"""How fast it is, and how to measure that; installed as ``ssl_data.benchmarks``, run by ``ssl-data bench``."""
