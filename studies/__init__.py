"""Beyond one run: `python -m studies NAME ...` (see __main__.py). Imports rooms, never reversed."""
