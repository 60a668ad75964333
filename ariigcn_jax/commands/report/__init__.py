"""One page, in one file, about one or several runs."""
