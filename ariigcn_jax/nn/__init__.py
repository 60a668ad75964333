"""The network's modules, in Flax linen; nothing else imports linen."""
