"""The warm process: an index and its model kept in memory, what it says over a socket, and the contact sheet.

May import every package before it: `photos`, `models`, `store`, `indexing`, `search` and `compose`.
"""
