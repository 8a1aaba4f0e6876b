"""Makes the bundle from wheels: `python -m builder WHEELS BUNDLE`. Uses the standard library alone."""
