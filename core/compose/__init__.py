"""Composers that need weights or training. Those that need none are in `search`.

May import every package before it. Empty until the first one ships.
"""
