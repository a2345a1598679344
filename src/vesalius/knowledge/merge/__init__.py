"""From staged sources to the tables of one graph, in SQL: memory does not grow with the sources.

The order of things, one module each: what is obsolete (`obsolete`), what ties concepts together (`ties`), relations and their
checks (`relations`, `cycles`), the tables (`lay`). All of it works on a `Workspace`.
"""
