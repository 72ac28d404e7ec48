"""What is measured: one file per subject, each with one function `run(task)`."""
