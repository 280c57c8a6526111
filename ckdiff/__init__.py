"""ckdiff: what did unlearning change in a model, and did the knowledge go away?"""

__version__ = "0.1.0"
