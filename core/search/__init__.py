"""A query turned into hits.

May import the light modules, `photos`, `models`, `store` and `indexing`. It is handed an embedder and a store, and
builds neither.
"""
