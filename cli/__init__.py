"""The commands: parse what was typed, call core, render."""
