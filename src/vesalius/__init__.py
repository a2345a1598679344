"""Vesalius teaches a text encoder human anatomy: from what is written about the body and from what scans show of it."""
