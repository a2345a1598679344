"""Networks and the pure functions that join them."""
