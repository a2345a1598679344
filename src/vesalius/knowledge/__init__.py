"""Anatomy in words: concepts, their texts and relations, from sources to a graph on disk."""
