"""What works on this machine, what does not, and how to fix it.

May import every package before it.
"""
