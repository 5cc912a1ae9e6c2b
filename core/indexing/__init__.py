"""Photos and a model, brought into the store: what changed, the run, and watching for more.

May import the light modules, `photos`, `models` and `store`. It is handed an embedder and a store, and builds neither.
"""
