"""Model names turned into towers: what embeds pictures and texts.

May import the light modules and `photos`. The only package that names torch, open_clip, onnx and onnxruntime.
"""
