"""Retrievers for LangChain, LlamaIndex and Haystack, each in a module of its own that alone imports its framework.

They live beside the engine, not in `serving`, because they call it in the same process and need no server.
"""
