"""The truth on disk: which photos there are, what they say, and their vectors.

May import the light modules, `photos` and `models`. The only package that holds SQL, and that names hnswlib and
sqlite_utils.
"""
