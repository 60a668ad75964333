"""What one runs around training."""

import experiments  # noqa: F401  it prepares the process of a command
