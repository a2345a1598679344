"""One training example: what is drawn, in which order, and how it becomes a batch."""
