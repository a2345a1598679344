"""The Vesalius handbook: what scans show of the human body, in our own words. `SCHEMA.md` beside this file says how it is written.

`entry` is what is written, `files` reads it, `expand` makes sides and series of it, `check` says what is wrong with it,
`spellings` ties the labels of datasets to it.
"""
