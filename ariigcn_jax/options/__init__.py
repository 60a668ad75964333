"""Hold every default of an experiment, and the names that change several of them."""
