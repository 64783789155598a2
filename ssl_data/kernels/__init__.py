"""Arrays in, arrays out: edge masks and self-similarity graphs, each beside a plain reference."""
