"""A run on the host: work directory, checkpoints, results, pictures."""
