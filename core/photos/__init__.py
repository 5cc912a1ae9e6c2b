"""Files on disk, read into upright pixels and facts.

May import only the light modules of core. Pictures are decoded in processes of their own.
"""
