"""Benchmarks: reading their files, running their queries, and computing metrics.

May import every package before it.
"""
