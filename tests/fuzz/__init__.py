"""Inputs that nobody meant to write: bytes of Parquet files with faults in them, and tables drawn at random."""
