"""AR-IIGCN, emotion recognition in conversations, as pure functions in JAX."""

__version__ = "0.1.0"
