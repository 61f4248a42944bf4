"""Measures how many tokens per second the engine decodes, beside transformers' own ways of generating."""
