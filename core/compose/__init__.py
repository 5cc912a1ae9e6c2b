"""Composers: the weights of composition methods that were learned. The methods that need none are in `search`.

May import every package before it: `photos`, `models`, `store`, `indexing` and `search`.
"""
