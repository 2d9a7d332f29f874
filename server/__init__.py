"""The HTTP edge and the command line. FastAPI and pydantic live here and nowhere else."""

__version__ = "0.1.0"
