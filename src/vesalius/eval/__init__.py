"""Numbers and pictures from predictions."""
