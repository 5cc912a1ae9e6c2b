"""The index on disk: photos, what is known about them, and their vectors.

May import the light modules, `photos` and `models`. The only package that runs SQL on the catalogue, and that
names hnswlib, simsimd and sqlite_utils.
"""
