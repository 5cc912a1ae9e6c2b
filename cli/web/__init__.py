"""The gallery that `imgsearch serve` shows in a browser, and the JSON API behind it."""
