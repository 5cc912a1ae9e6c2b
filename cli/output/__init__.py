"""What the commands print: hits, JSON, tables, progress, previews and contact sheets."""
