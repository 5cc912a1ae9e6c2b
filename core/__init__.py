"""Everything that works without a terminal: walk, decode, embed, store, search."""
