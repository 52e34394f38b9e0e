"""Generators: each turns a latent into a picture. They know nothing of words, loops or pages."""
