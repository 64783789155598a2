"""Images to store: list the sources, plan the shards, run one job per shard, commit."""
