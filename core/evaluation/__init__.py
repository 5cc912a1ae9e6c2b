"""Benchmarks turned into tables: their files, runs over them, and the metrics.

May import every package before it except `serving`.
"""
