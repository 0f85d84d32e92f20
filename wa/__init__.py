"""Weight aligning (WA) and its relatives in class-incremental learning."""

__version__ = "0.1.0"
