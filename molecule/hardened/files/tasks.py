"""A function of the application."""

FUNCTIONS = {"upper_python": lambda job: job.data.upper()}
