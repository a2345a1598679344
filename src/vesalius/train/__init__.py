"""Teaching a model: one loop, two stages."""
