"""One module for each file layout."""
