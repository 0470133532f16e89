"""A run as a tree of frozen dataclasses, read from a recipe and from flags; no TensorFlow here.

Flags and help are cyclopts' work. Of the libraries compared (jsonargparse, tyro, pydantic-settings) it names the
nearest right flag for a wrong one, answers in a quarter of a second, leaves the words of all other messages to its
caller, and is well kept; the recipe is read here, since none of them says in which line of it a mistake is.
"""
